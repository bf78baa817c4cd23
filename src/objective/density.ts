/** Densities of t (SD3 paper, section 3.1; design notes: t = 0 is data, t = 1 is noise). */
import type { Density } from '../config/density.js';
import { elementary } from '../native/elementary.js';
import { normalPair } from '../random/philox.js';

type Sampler<K extends Density['kind']> = (
  density: Extract<Density, { kind: K }>,
  u1: number,
  u2: number,
) => number;

/** One line per density: t in [0, 1] of two independent uniforms in (0, 1). */
const SAMPLERS: { [K in Density['kind']]: Sampler<K> } = {
  uniform: (_, u) => u,
  /** u ~ N(m, s^2), t = sigmoid(u): positive m leans to noise. */
  lognorm: ({ m, s }, u1, u2) => 1 / (1 + elementary().exp(-(m + s * normalPair(u1, u2)[0]))),
  mode: ({ s }, u) => {
    const cosine = elementary().cos((Math.PI / 2) * u);
    return 1 - u - s * (cosine * cosine - 1 + u);
  },
  cosmap: (_, u) => 1 - 1 / (elementary().tan((Math.PI / 2) * u) + 1),
};

/** t of two independent uniforms in (0, 1). */
export function sampleTime(density: Density, u1: number, u2: number): number {
  const sampler = SAMPLERS[density.kind] as Sampler<Density['kind']>;
  return sampler(density as never, u1, u2);
}

/**
 * Resolution-dependent shift (SD3 paper, section 5.3.2): t_m = alpha t_n / (1 + (alpha - 1) t_n), the same in training
 * and in sampling. alpha = sqrt(m / n) in theory; 3 at 1024 x 1024.
 */
export function shiftTime(t: number, alpha: number): number {
  return (alpha * t) / (1 + (alpha - 1) * t);
}
