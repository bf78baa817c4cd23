/** `data.on_non_finite: skip`: rows with a stored value that is not finite count for nothing. */
import type { Dataset, EvaluateBatch } from '../native/contract.js';
import { writeCoefficient } from '../objective/coefficients.js';
import { DROP } from '../step/slot.js';

/**
 * Gives such rows the weight 0, and drops their values, which would make other gradients NaN. Whether a row is
 * finite is a property of the row, so every worker, and every later step, does the same.
 */
export async function skipNonFinite(dataset: Dataset, batches: readonly EvaluateBatch[]): Promise<void> {
  const finite = await dataset.finite(Float64Array.from(batches.flatMap(({ rows }) => [...rows])));
  let at = 0;
  for (const { rows, dropped, coefficients } of batches) {
    for (let i = 0; i < rows.length; i++) {
      if (finite[at++] === 1) continue;
      dropped[i] = DROP.row;
      writeCoefficient(coefficients, i, 'weight', 0);
    }
  }
}

/** Whether a sample was given the weight 0. */
export function isSkipped(dropped: Uint8Array, i: number): boolean {
  return (dropped[i]! & DROP.row) !== 0;
}
