/** Heun's method along the path, of second order. */
import { stepTo } from './euler.js';
import type { Solver } from './solvers.js';

/**
 * dz = x0 da + eps db, so a step adds the means of both estimates at its ends (the trapezoid rule) times the
 * changes of a and b; the estimates at the further end are taken where Euler's method arrives (Karras et al.,
 * 2022, algorithm 1). A step to b = 0 is Euler's: without noise the model has no eps to estimate.
 */
export const heun: Solver = async (model, start, path, onStep) => {
  const z = Float32Array.from(start);
  for (const [i, to] of path.slice(1).entries()) {
    const from = path[i]!;
    const here = await model(z, from);
    if (to.b === 0) {
      stepTo(to, here, z);
    } else {
      const before = Float32Array.from(z);
      stepTo(to, here, z);
      const there = await model(z, to);
      const [da, db] = [(to.a - from.a) / 2, (to.b - from.b) / 2];
      for (let k = 0; k < z.length; k++) {
        z[k] = before[k]! + da * (here.x0[k]! + there.x0[k]!) + db * (here.eps[k]! + there.eps[k]!);
      }
    }
    onStep(i + 1);
  }
  return z;
};
