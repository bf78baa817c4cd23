/**
 * Densities of t and the resolution shift (SD3 paper, section 3.1; t = 0 is data, t = 1 is noise). The
 * configuration writes a density as `uniform`, `lognorm(m, s)`, `mode(s)` or `cosmap`.
 */
import { elementary } from '../native/elementary.js';
import { normalPair } from '../random/philox.js';

export type Density =
  | { kind: 'uniform' }
  | { kind: 'lognorm'; m: number; s: number }
  | { kind: 'mode'; s: number }
  | { kind: 'cosmap' };

const NUMBER = String.raw`[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?`;

/** Pattern of `objective.density`; `densityProblem` checks the ranges. */
export const DENSITY_PATTERN = new RegExp(
  String.raw`^(?:uniform|cosmap|lognorm\(\s*(${NUMBER})\s*,\s*(${NUMBER})\s*\)|mode\(\s*(${NUMBER})\s*\))$`,
);

/** Largest s for which f(u) = 1 - u - s (cos^2(pi u / 2) - 1 + u) is monotonic. */
export const MODE_LIMIT = 2 / (Math.PI - 2);

/** Parses a density; null if the text does not match `DENSITY_PATTERN`. */
export function parseDensity(text: string): Density | null {
  const match = DENSITY_PATTERN.exec(text);
  if (match === null) return null;
  if (text === 'uniform') return { kind: 'uniform' };
  if (text === 'cosmap') return { kind: 'cosmap' };
  if (match[3] !== undefined) return { kind: 'mode', s: Number(match[3]) };
  return { kind: 'lognorm', m: Number(match[1]), s: Number(match[2]) };
}

/** The expected range of a parameter that is out of range, or null. */
export function densityProblem(density: Density): string | null {
  if (density.kind === 'lognorm' && !(density.s > 0)) return 's of lognorm(m, s) to be greater than 0';
  if (density.kind === 'mode' && !(density.s >= -1 && density.s <= MODE_LIMIT)) {
    return `s of mode(s) to be from -1 to ${MODE_LIMIT.toFixed(4)}`;
  }
  return null;
}

type Sampler<K extends Density['kind']> = (
  density: Extract<Density, { kind: K }>,
  u1: number,
  u2: number,
) => number;

/** One line per density: t in [0, 1] from two independent uniforms in (0, 1). */
const SAMPLERS: { [K in Density['kind']]: Sampler<K> } = {
  uniform: (_, u) => u,
  /** u ~ N(m, s^2), t = sigmoid(u): a positive m favours noise. */
  lognorm: ({ m, s }, u1, u2) => 1 / (1 + elementary().exp(-(m + s * normalPair(u1, u2)[0]))),
  mode: ({ s }, u) => {
    const cosine = elementary().cos((Math.PI / 2) * u);
    return 1 - u - s * (cosine * cosine - 1 + u);
  },
  cosmap: (_, u) => 1 - 1 / (elementary().tan((Math.PI / 2) * u) + 1),
};

/** Draws t from two independent uniforms in (0, 1). */
export function sampleTime(density: Density, u1: number, u2: number): number {
  const sampler = SAMPLERS[density.kind] as Sampler<Density['kind']>;
  return sampler(density as never, u1, u2);
}

/**
 * Resolution-dependent shift (SD3 paper, section 5.3.2): t_m = alpha t_n / (1 + (alpha - 1) t_n), the same in
 * training and in sampling. In theory alpha = sqrt(m / n); it is 3 at 1024 x 1024.
 */
export function shiftTime(t: number, alpha: number): number {
  return (alpha * t) / (1 + (alpha - 1) * t);
}
