/** The loss on held-out rows; each worker computes its share of the slots. */
import { validatedWeights } from '../config/derived.js';
import type { EvaluateBatch } from '../native/contract.js';
import type { ValidationLoss } from '../rpc/generated/orchestrator/v1/ValidationLoss.js';
import { VALIDATION_STEP } from '../step/slot.js';
import type { Generation } from './setup.js';

/**
 * Unweighted losses of this worker's slots, one for each sample that is not padding; null if the run is asked
 * to stop before they are computed.
 */
export async function validate({
  engine,
  config,
  training,
  validation: slots,
  form: { rank, members },
  session,
}: Generation): Promise<ValidationLoss[] | null> {
  const losses: ValidationLoss[] = [];
  const seed = BigInt(config.seed);
  // Several slots at once keep all threads busy.
  const group = 2 * training.spec.threads;
  const bound = (rank: number) => Math.floor((rank * slots.length) / members.length);
  const end = bound(rank + 1);
  for (const weights of validatedWeights(config)) {
    for (let first = bound(rank); first < end; first += group) {
      if (session.draining) return null;
      const some = slots.slice(first, Math.min(first + group, end));
      const values = await engine.evaluate(concatenate(some), { weights, seed, step: VALIDATION_STEP });
      let at = 0;
      for (const [i, slot] of some.entries()) {
        const own = values.subarray(at, at + slot.count);
        losses.push({ weights, slot: first + i, losses: Array.from(own, (loss) => slot.scale * loss) });
        at += slot.rows.length;
      }
    }
  }
  return losses;
}

function concatenate(slots: readonly EvaluateBatch[]): EvaluateBatch {
  const all = (key: keyof EvaluateBatch) => slots.flatMap((slot) => [...slot[key]]);
  return {
    rows: Float64Array.from(all('rows')),
    synthetic: Uint8Array.from(all('synthetic')),
    dropped: Uint8Array.from(all('dropped')),
    coefficients: Float32Array.from(all('coefficients')),
    sampleIds: Float64Array.from(all('sampleIds')),
  };
}
