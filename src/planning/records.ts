/** How large the records of a run become: docs/guide/training.md has the sizes of their lines. */
import { isLogged } from '../config/derived.js';
import type { Config } from '../config/schema.js';

/** Bytes of a line of the ledger, and of a step in metrics.jsonl without the parts below. */
const STEP_BYTES = 106 + 270;
/** Bytes of a worker in metrics.jsonl, and of a step in run.log. */
const WORKER_BYTES = 490;
const LOG_BYTES = 150;

/** Bytes of the ledger, metrics.jsonl and run.log after the last step, without attention and validations. */
export function recordBytes(config: Config, workers: number): number {
  const { steps } = config.schedule;
  let logged = 0;
  for (let step = 1; step <= steps; step++) if (isLogged(config, step, 1)) logged++;
  return steps * STEP_BYTES + logged * (workers * WORKER_BYTES + LOG_BYTES);
}
