/** How large the records of a run become: docs/guide/training.md has the sizes of their lines. */
import { isAttentionLogged, isLogged } from '../config/derived.js';
import type { Config } from '../config/schema.js';

/** Bytes of a line of the ledger, and of a step in run.log. */
const LEDGER_BYTES = 196;
const LOG_BYTES = 150;
/** Bytes of a step, and of its detailed records, in metrics.jsonl and in TensorBoard's event files. */
const METRICS_BYTES = { step: 270, worker: 490, attention: 330, block: 30 };
const EVENT_BYTES = { step: 230, worker: 510, attention: 340, block: 30 };

/** Bytes of the ledger, metrics.jsonl, event files and run.log after the last step, without validations. */
export function recordBytes(config: Config, workers: number): number {
  const { schedule, telemetry, model } = config;
  let logged = 0;
  let sampled = 0;
  for (let step = 1; step <= schedule.steps; step++) {
    if (isLogged(config, step, 1)) logged++;
    const isSampled = telemetry.attention_every > 0 && step % telemetry.attention_every === 0;
    if (isSampled && isAttentionLogged(config, step, 1)) sampled++;
  }
  const attentions = model.depth + model.dual_attention.length;
  const numbers = ({ step, worker, attention, block }: typeof METRICS_BYTES) =>
    schedule.steps * step +
    logged * workers * worker +
    sampled * (attentions * attention + model.depth * block);
  const events = telemetry.tensorboard ? numbers(EVENT_BYTES) : 0;
  return schedule.steps * LEDGER_BYTES + logged * LOG_BYTES + numbers(METRICS_BYTES) + events;
}
