/** DPM-Solver++ of second order with the estimate of the step before (2M). */

import { elementary } from '../native/elementary.js';
import type { Coefficients } from '../objective/coefficients.js';
import type { Solver } from './solvers.js';

/**
 * -log t of the straight path's point with the same ratio of data to noise, log(1 + a / b). The released
 * inference code (`sample_dpmpp_2m`) measures its steps in -log sigma with sigma = t, so on the straight path
 * this is the same. The paper's variable log(a / b) differs by less the less noise there is; it is infinite
 * where a = 0, from where rf and v/cos are sampled.
 */
const place = ({ a, b }: Coefficients) => elementary().log(1 + a / b);

/**
 * Lu et al. (2022), algorithm 2: a step is Euler's with x0 extrapolated along a line through its last two
 * estimates, to the middle of the step. The first step, and a step to b = 0, take x0 as it is, as in the
 * released inference code.
 */
export const dpmpp2m: Solver = async (model, start, path, onStep) => {
  const z = Float32Array.from(start);
  let last: { x0: Float64Array; from: Coefficients } | null = null;
  for (const [i, to] of path.slice(1).entries()) {
    const from = path[i]!;
    const { x0 } = await model(z, from);
    // Two levels of a table may be one after the shift.
    const before = last === null ? 0 : place(from) - place(last.from);
    const extrapolated = before === 0 || to.b === 0 ? 0 : (place(to) - place(from)) / before / 2;
    const ofZ = to.b / from.b;
    const ofData = to.a - ofZ * from.a;
    for (let k = 0; k < z.length; k++) {
      const data = last === null ? x0[k]! : x0[k]! + extrapolated * (x0[k]! - last.x0[k]!);
      z[k] = ofZ * z[k]! + ofData * data;
    }
    last = { x0, from };
    onStep(i + 1);
  }
  return z;
};
