/** How large the records of a run become: docs/guide/training.md has the sizes of their lines. */
import { isAttentionLogged, isLogged } from '../config/derived.js';
import type { Config } from '../config/schema.js';

/** Bytes of a line of the ledger, and of a step in metrics.jsonl without the parts below. */
const STEP_BYTES = 106 + 270;
/** Bytes of a worker in metrics.jsonl, and of a step in run.log. */
const WORKER_BYTES = 490;
const LOG_BYTES = 150;
/** Bytes of an attention, and of the gradient of a block. */
const ATTENTION_BYTES = 330;
const BLOCK_BYTES = 30;

/** Bytes of the ledger, metrics.jsonl and run.log after the last step, without validations. */
export function recordBytes(config: Config, workers: number): number {
  const { schedule, telemetry, model } = config;
  const attentionBytes =
    model.depth * (ATTENTION_BYTES + BLOCK_BYTES) + model.dual_attention.length * ATTENTION_BYTES;
  let bytes = schedule.steps * STEP_BYTES;
  for (let step = 1; step <= schedule.steps; step++) {
    if (isLogged(config, step, 1)) bytes += workers * WORKER_BYTES + LOG_BYTES;
    const isSampled = telemetry.attention_every > 0 && step % telemetry.attention_every === 0;
    if (isSampled && isAttentionLogged(config, step, 1)) bytes += attentionBytes;
  }
  return bytes;
}
