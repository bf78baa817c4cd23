/** The loss on held-out rows; each worker computes its share of the slots. */
import type { EvaluateBatch } from '../native/contract.js';
import { COEFFICIENTS } from '../objective/formulations.js';
import type { ValidationLoss } from '../rpc/generated/orchestrator/v1/ValidationLoss.js';
import { VALIDATION_STEP, type ValidationSlot } from '../step/slot.js';
import type { Generation } from './setup.js';

/** Unweighted losses of this worker's slots, one for each sample that is not padding. */
export async function validate({
  engine,
  config,
  training,
  validation: slots,
  rank,
  ranks,
}: Generation): Promise<ValidationLoss[]> {
  const losses: ValidationLoss[] = [];
  const seed = BigInt(config.seed);
  // Several slots at once keep all threads busy.
  const group = 2 * training.spec.threads;
  const end = Math.floor(((rank + 1) * slots.length) / ranks);
  for (const weights of config.validation.weights) {
    for (let first = Math.floor((rank * slots.length) / ranks); first < end; first += group) {
      const some = slots.slice(first, Math.min(first + group, end));
      const values = await engine.evaluate(concatenate(some), { weights, seed, step: VALIDATION_STEP });
      let at = 0;
      for (const [i, slot] of some.entries()) {
        losses.push({ weights, slot: first + i, losses: [...values.subarray(at, at + slot.count)] });
        at += slot.rows.length;
      }
    }
  }
  return losses;
}

function concatenate(slots: readonly ValidationSlot[]): EvaluateBatch {
  const samples = slots.reduce((sum, { rows }) => sum + rows.length, 0);
  const batch: EvaluateBatch = {
    rows: new Float64Array(samples),
    synthetic: new Uint8Array(samples),
    dropped: new Uint8Array(samples),
    coefficients: new Float32Array(samples * COEFFICIENTS.length),
    sampleIds: new Float64Array(samples),
  };
  let at = 0;
  for (const slot of slots) {
    batch.rows.set(slot.rows, at);
    batch.synthetic.set(slot.synthetic, at);
    batch.dropped.set(slot.dropped, at);
    batch.coefficients.set(slot.coefficients, at * COEFFICIENTS.length);
    batch.sampleIds.set(slot.sampleIds, at);
    at += slot.rows.length;
  }
  return batch;
}
