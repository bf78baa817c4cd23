/** Euler's method along the path. */
import type { Solver } from './solvers.js';

/**
 * Each step takes the model's x0 and eps as constant: z_s = a_s x0 + b_s eps. On the straight path of `rf`
 * this is Euler's method for dz/dt; on a variance-preserving path it is DDIM (Song et al., 2021, equation 12
 * without its noise).
 */
export const euler: Solver = async (model, start, path, onStep) => {
  const z = Float32Array.from(start);
  for (const [i, { a, b }] of path.slice(1).entries()) {
    const { x0, eps } = await model(z, path[i]!);
    for (let k = 0; k < z.length; k++) z[k] = a * x0[k]! + b * eps[k]!;
    onStep(i + 1);
  }
  return z;
};
