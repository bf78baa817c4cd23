/** Assigns slots to workers. */
import { type Config, slotCount } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import type { Range } from './tree.js';

/** Refuses more workers than slots, because a worker without a slot would only wait. */
export function checkWorkers(config: Config, workers: number): void {
  const slots = slotCount(config);
  if (workers <= slots) return;
  const { global, micro, accumulate } = config.batch;
  const each = accumulate === 1 ? '' : ` / batch.accumulate ${accumulate}`;
  throw new OrchestratorError(
    'ERR_USAGE',
    `${workers} workers cannot share ${slots} slots (batch.global ${global} / batch.micro ${micro}${each})`,
    `Use at most ${slots} workers, or a smaller ${accumulate === 1 ? 'batch.micro' : 'batch.accumulate'}`,
  );
}

/** Refuses more workers that must be left than there are. */
export function checkFewest(workers: number, fewest: number): void {
  if (fewest <= workers) return;
  throw new OrchestratorError('ERR_USAGE', `At least ${fewest} workers cannot be left of ${workers}`);
}

/**
 * The contiguous slots of every rank, distributed as evenly as possible: rank r has [floor(r V / P), floor((r
 * + 1) V / P)).
 */
export function assignSlots(totalSlots: number, ranks: number): Range[] {
  return Array.from({ length: ranks }, (_, rank) => ({
    lo: Math.floor((rank * totalSlots) / ranks),
    hi: Math.floor(((rank + 1) * totalSlots) / ranks),
  }));
}

/** "slot 3", "slots 0-4" */
export function describeSlots({ lo, hi }: Range): string {
  return hi - lo === 1 ? `slot ${lo}` : `slots ${lo}-${hi - 1}`;
}
