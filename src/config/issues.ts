/** Turns zod's issues into problems: `key: expected X, received Y; did you mean Z`. */
import type { z } from 'zod';
import { nearest } from '../text/nearest.js';
import {
  expectation,
  formatPath,
  jsonSchema,
  namesAt,
  type Path,
  type SchemaNode,
  schemaAt,
  unwrapNull,
} from './describe.js';
import type { Problem, Sources } from './sources.js';
import { show, valueAt } from './value.js';

type Issue = z.core.$ZodIssue;

export function problemsOf(issues: readonly Issue[], sources: Sources): Problem[] {
  return issues.flatMap((issue) => {
    const path = issue.path as (string | number)[];
    if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => unknownKey(path, key, sources));
    return [wrongValue(path, sources)];
  });
}

function unknownKey(parent: Path, key: string, sources: Sources): Problem {
  const names = namesAt(parent);
  const path = [...parent, key];
  const near = nearest(key, names) ?? elsewhere(key);
  const text = `unknown key; expected one of ${names.join(', ')}`;
  return { place: sources.placeFor(path, true), key: formatPath(path), text: text + suggestion(near) };
}

function wrongValue(path: Path, sources: Sources): Problem {
  const schema = schemaAt(path);
  const value = valueAt(sources.merged, path);
  const expected = schema === null ? 'another value' : expectation(schema);
  const tooLarge = typeof value === 'number' && Math.abs(value) > Number.MAX_SAFE_INTEGER;
  const limit = tooLarge ? `, and at most ${Number.MAX_SAFE_INTEGER}` : '';
  const text = `expected ${expected}${limit}, received ${show(value)}`;
  const choices = (schema && unwrapNull(schema).node.enum) ?? [];
  const near = typeof value === 'string' ? nearest(value, choices.map(String)) : null;
  return { place: sources.placeFor(path), key: formatPath(path), text: text + suggestion(near) };
}

function suggestion(name: string | null): string {
  return name === null ? '' : `; did you mean ${name}`;
}

/**
 * A key of this name in another mapping (`lr` at the top level means `optimizer.lr`), or null unless there is
 * exactly one.
 */
function elsewhere(key: string): string | null {
  const found: string[] = [];
  const visit = (node: SchemaNode, path: string[]): void => {
    for (const [name, child] of Object.entries(unwrapNull(node).node.properties ?? {})) {
      if (name === key) found.push(formatPath([...path, name]));
      visit(child, [...path, name]);
    }
  };
  visit(jsonSchema(), []);
  return found.length === 1 ? found[0]! : null;
}
