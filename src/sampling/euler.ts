/** Euler's method along the path. */
import type { Coefficients, Denoised } from '../objective/coefficients.js';
import type { Solver } from './solvers.js';

/** Moves z, in place, to another point of the path, with constant estimates of data and noise. */
export function stepTo({ a, b }: Coefficients, { x0, eps }: Denoised, z: Float32Array): void {
  for (let k = 0; k < z.length; k++) z[k] = a * x0[k]! + b * eps[k]!;
}

/**
 * Each step takes the model's x0 and eps as constant: z_s = a_s x0 + b_s eps. On the straight path of `rf`
 * this is Euler's method for dz/dt; on a variance-preserving path it is DDIM (Song et al., 2021, equation 12
 * without its noise). (Euler's method for dz/dt there is not DDIM, and a table has no dz/dt.)
 */
export const euler: Solver = async (model, start, path, onStep) => {
  const z = Float32Array.from(start);
  for (const [i, point] of path.slice(1).entries()) {
    stepTo(point, await model(z, path[i]!), z);
    onStep(i + 1);
  }
  return z;
};
