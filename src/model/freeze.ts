/** Patterns of parameters that training does not change. */
import type { EngineLayout } from '../native/contract.js';
import { nearest } from '../text/nearest.js';

function matching(names: readonly string[], pattern: string): string[] {
  const expression = new RegExp(`^${pattern.split('*').map(escaped).join('.*')}$`);
  return names.filter((name) => expression.test(name));
}

/**
 * "expected ..., received ...", or null if every pattern matches a parameter and some parameters remain to be
 * trained.
 */
export function freezeProblem(names: readonly string[], patterns: readonly string[]): string | null {
  for (const pattern of patterns) {
    if (matching(names, pattern).length > 0) continue;
    const near = nearest(pattern, [...names]);
    const hint = near === null ? '' : `; did you mean ${near}`;
    return `expected patterns of parameter names (* = any characters), received ${pattern}, which matches none${hint}`;
  }
  const all = frozenNames(names, patterns).size === names.length;
  return all ? 'expected a parameter that is left to train, received patterns that match all' : null;
}

/** The names that match one of the patterns, in which `*` stands for any characters. */
export function frozenNames(names: readonly string[], patterns: readonly string[]): Set<string> {
  return new Set(patterns.flatMap((pattern) => matching(names, pattern)));
}

function escaped(text: string): string {
  return text.replace(/[.+?^${}()|[\]\\]/g, '\\$&');
}

/** The ranges of the frozen parameters in the flat arrays, for Engine.freeze. */
export function frozenBounds(layout: EngineLayout, patterns: readonly string[]): Float64Array {
  const frozen = frozenNames(
    layout.tensors.map(({ name }) => name),
    patterns,
  );
  const ranges = layout.tensors.filter(({ name }) => frozen.has(name)).sort((a, b) => a.offset - b.offset);
  return Float64Array.from(ranges.flatMap(({ offset, length }) => [offset, offset + length]));
}
