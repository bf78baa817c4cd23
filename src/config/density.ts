/** Densities of t as the configuration writes them: `uniform`, `lognorm(m, s)`, `mode(s)`, `cosmap` (SD3 paper, section 3.1). */
export type Density =
  | { kind: 'uniform' }
  | { kind: 'lognorm'; m: number; s: number }
  | { kind: 'mode'; s: number }
  | { kind: 'cosmap' };

const NUMBER = String.raw`[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?`;

/** What `objective.density` must match. Ranges are checked by `densityProblem`. */
export const DENSITY_PATTERN = new RegExp(
  String.raw`^(?:uniform|cosmap|lognorm\(\s*(${NUMBER})\s*,\s*(${NUMBER})\s*\)|mode\(\s*(${NUMBER})\s*\))$`,
);

/** Largest s for which f(u) = 1 - u - s (cos^2(pi u / 2) - 1 + u) is monotonic. */
export const MODE_LIMIT = 2 / (Math.PI - 2);

/** Returns null where the text does not match `DENSITY_PATTERN`. */
export function parseDensity(text: string): Density | null {
  const match = DENSITY_PATTERN.exec(text);
  if (match === null) return null;
  if (text === 'uniform') return { kind: 'uniform' };
  if (text === 'cosmap') return { kind: 'cosmap' };
  if (match[3] !== undefined) return { kind: 'mode', s: Number(match[3]) };
  return { kind: 'lognorm', m: Number(match[1]), s: Number(match[2]) };
}

/** What the density's parameters should have been, or null where they are in range. */
export function densityProblem(density: Density): string | null {
  if (density.kind === 'lognorm' && !(density.s > 0)) return 's of lognorm(m, s) to be greater than 0';
  if (density.kind === 'mode' && !(density.s >= -1 && density.s <= MODE_LIMIT)) {
    return `s of mode(s) to be from -1 to ${MODE_LIMIT.toFixed(4)}`;
  }
  return null;
}
