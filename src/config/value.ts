/** Reads, writes and shows plain values of YAML and JSON by path. */
import { isMapping, type Mapping } from '../files/json.js';
import type { Path } from './describe.js';

/** The value at a path, or undefined if there is none. */
export function valueAt(root: unknown, path: Path): unknown {
  let current = root;
  for (const part of path) {
    if (typeof part === 'number') current = Array.isArray(current) ? current[part] : undefined;
    else current = isMapping(current) && Object.hasOwn(current, part) ? current[part] : undefined;
  }
  return current;
}

/**
 * Sets a value, creating missing (or null) mappings on the path. Returns the prefix that is not a mapping, or
 * null.
 */
export function setAt(root: Mapping, path: readonly string[], value: unknown): string[] | null {
  let current = root;
  for (const [depth, part] of path.slice(0, -1).entries()) {
    const next = (Object.hasOwn(current, part) ? current[part] : null) ?? {};
    if (!isMapping(next)) return path.slice(0, depth + 1);
    current[part] = next;
    current = next;
  }
  current[path.at(-1)!] = value;
  return null;
}

export function deleteAt(root: Mapping, path: readonly string[]): void {
  const parent = valueAt(root, path.slice(0, -1));
  if (isMapping(parent)) delete parent[path.at(-1)!];
}

/** The paths of everything that is not a mapping, in order. */
export function* leaves(value: unknown, path: string[] = []): Generator<{ path: string[]; value: unknown }> {
  if (isMapping(value)) {
    for (const [key, child] of Object.entries(value)) yield* leaves(child, [...path, key]);
  } else {
    yield { path, value };
  }
}

/** A value for messages: "nothing", "null", 3, "abc", a shortened list or mapping. */
export function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number') return String(value);
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
