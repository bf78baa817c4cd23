/** Turns zod's issues into problems: `key: expected X, received Y; did you mean Z`. */
import type { z } from 'zod';
import { nearest } from '../text/nearest.js';
import { aliasOf, REMOVED, VALUE_ALIASES } from './aliases.js';
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
  const dotted = formatPath(path);
  if (Object.hasOwn(REMOVED, dotted)) {
    const text = REMOVED[dotted]!(valueAt(sources.merged, path));
    return { place: sources.placeFor(path, true), key: dotted, text };
  }
  const near = nearest(key, names);
  const other = near === null ? aliasOf(key) : null;
  const text =
    other === null
      ? `unknown key; expected one of ${names.join(', ')}${suggestion(near ?? elsewhere(key))}`
      : `unknown key; ${other}`;
  return { place: sources.placeFor(path, true), key: dotted, text };
}

function wrongValue(path: Path, sources: Sources): Problem {
  const schema = schemaAt(path);
  const value = valueAt(sources.merged, path);
  const expected = schema === null ? 'another value' : expectation(schema);
  const tooLarge = typeof value === 'number' && Math.abs(value) > Number.MAX_SAFE_INTEGER;
  const limit = tooLarge ? `, and at most ${Number.MAX_SAFE_INTEGER}` : '';
  const text = `expected ${expected}${limit}, received ${show(value)}`;
  const place = sources.placeFor(path);
  const advice = schema === null ? '' : adviceOn(value, unwrapNull(schema), path, place);
  return { place, key: formatPath(path), text: text + advice };
}

/** What to write instead of a value of another type or choice, where that can be guessed. */
function adviceOn(
  value: unknown,
  { node, nullable }: ReturnType<typeof unwrapNull>,
  path: Path,
  place: string,
): string {
  const { type, enum: choices } = node;
  const text = String(value).toLowerCase();
  if (type === 'object') return adviceOnMapping(value, node, nullable, path);
  const ours = VALUE_ALIASES[formatPath(path)]?.[text];
  if (ours !== undefined) return suggestion(ours);
  if (choices !== undefined) {
    return suggestion(typeof value === 'string' ? nearest(value, choices.map(String)) : null);
  }
  if (typeof value === 'number') {
    const near = nearestMultiple(value, node);
    if (near !== null) return suggestion(String(near));
  }
  if (type === 'string' && (typeof value === 'number' || typeof value === 'boolean')) {
    const inShell = place.startsWith('--set')
      ? `, and once more for the shell: '${formatPath(path)}="${value}"'`
      : '';
    return `; put it in quotes to make it a string${inShell}`;
  }
  if (typeof value !== 'string') return '';
  const number = text.trim() === '' ? Number.NaN : Number(text.replace(/[_,]/g, ''));
  if ((type === 'integer' || type === 'number') && Number.isFinite(number)) return `; write ${number}`;
  if (type === 'boolean' && ['yes', 'on', 'true', 'no', 'off', 'false'].includes(text)) {
    return `; write ${['yes', 'on', 'true'].includes(text)}`;
  }
  return '';
}

/** The same for a key that holds others: the one that was meant, none of them, or a colon without a space. */
function adviceOnMapping(value: unknown, { properties = {} }: SchemaNode, nullable: boolean, path: Path) {
  const text = String(value).toLowerCase();
  if (nullable && ['false', 'no', 'off', 'none', '0'].includes(text)) return '; write null';
  const [, key, rest] = /^(\w+):(\S+)$/.exec(String(value)) ?? [];
  if (key !== undefined && Object.hasOwn(properties, key)) {
    return `; write "${key}: ${rest}", with a space after the colon`;
  }
  for (const [name, child] of Object.entries(properties)) {
    const inner = formatPath([...path, name]);
    const choices = (unwrapNull(child).node.enum ?? []).map(String);
    const chosen = choices.includes(text) ? text : VALUE_ALIASES[inner]?.[text];
    if (chosen !== undefined) return `; did you mean ${inner}: ${chosen}`;
  }
  return '';
}

/** The nearest number of the right size that a step divides, where that is what is wrong; otherwise null. */
function nearestMultiple(value: number, { multipleOf, minimum, maximum }: SchemaNode): number | null {
  if (multipleOf === undefined || multipleOf <= 1 || value % multipleOf === 0) return null;
  const near = Math.max(1, Math.round(value / multipleOf)) * multipleOf;
  return near >= (minimum ?? near) && near <= (maximum ?? near) ? near : null;
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
