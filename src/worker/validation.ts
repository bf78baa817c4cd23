/** The loss on held-out rows; each worker computes its share of the slots. */
import { validatedWeights } from '../config/derived.js';
import { faultPoint } from '../fault-points.js';
import type { EvaluateBatch } from '../native/contract.js';
import type { ValidationLoss } from '../rpc/generated/orchestrator/v1/ValidationLoss.js';
import { VALIDATION_STEP } from '../step/slot.js';
import type { Generation } from './setup.js';
import { isSkipped, skipNonFinite } from './skip.js';

/**
 * Unweighted losses of this worker's slots, one for each sample that is neither padding nor skipped; null if the
 * run is asked to stop before they are computed.
 */
export async function validate(generation: Generation, step: number): Promise<ValidationLoss[] | null> {
  const { engine, config, rows, training, session, validation: slots } = generation;
  const { rank, members } = generation.form;
  const losses: ValidationLoss[] = [];
  session.validated = 0;
  const seed = BigInt(config.seed);
  // Several slots at once keep all threads busy.
  const group = 2 * training.spec.threads;
  const bound = (rank: number) => Math.floor((rank * slots.length) / members.length);
  const end = bound(rank + 1);
  for (const weights of validatedWeights(config)) {
    for (let first = bound(rank); first < end; first += group) {
      if (session.draining) return null;
      session.regrouped.throwIfAborted();
      const some = slots.slice(first, Math.min(first + group, end));
      if (config.data.on_non_finite === 'skip') await skipNonFinite(rows, some);
      const values = await engine.evaluate(concatenate(some), { weights, seed, step: VALIDATION_STEP });
      let at = 0;
      for (const [i, slot] of some.entries()) {
        const own = values.subarray(at, at + slot.count);
        const counted = own.filter((_, j) => !isSkipped(slot.dropped, j));
        losses.push({ weights, slot: first + i, losses: Array.from(counted, (loss) => slot.scale * loss) });
        at += slot.rows.length;
      }
      session.validated = losses.length;
      faultPoint('validating', step);
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
