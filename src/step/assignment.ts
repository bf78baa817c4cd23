/** Which worker computes which slots. */
import { type Config, slotCount } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import type { Range } from './tree.js';

/** A worker without a slot would only wait. */
export function checkWorkers(config: Config, workers: number): void {
  const slots = slotCount(config);
  if (workers <= slots) return;
  const { global, micro } = config.batch;
  throw new OrchestratorError(
    'ERR_USAGE',
    `${workers} workers cannot share ${slots} slots (batch.global ${global} / batch.micro ${micro})`,
    { hint: `Use at most ${slots} workers, or a smaller batch.micro.` },
  );
}

/** Contiguous slots of every rank, as equal as can be: rank r has [floor(r V / P), floor((r + 1) V / P)). */
export function assignSlots(totalSlots: number, ranks: number): Range[] {
  return Array.from({ length: ranks }, (_, rank) => ({
    lo: Math.floor((rank * totalSlots) / ranks),
    hi: Math.floor(((rank + 1) * totalSlots) / ranks),
  }));
}
