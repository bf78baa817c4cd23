/** Assigns slots to workers. */
import { type Config, slotCount } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import type { Range } from './tree.js';

/** Refuses more workers than slots, because a worker without a slot would only wait. */
export function checkWorkers(config: Config, workers: number): void {
  const slots = slotCount(config);
  if (workers <= slots) return;
  const { global, micro } = config.batch;
  throw new OrchestratorError(
    'ERR_USAGE',
    `${workers} workers cannot share ${slots} slots (batch.global ${global} / batch.micro ${micro})`,
    `Use at most ${slots} workers, or a smaller batch.micro`,
  );
}

/** A run that goes on with fewer workers must be able to: each of them holds the whole state. */
export function checkFewest({ exchange }: Pick<Config, 'exchange'>, workers: number, fewest: number): void {
  if (fewest > workers) {
    throw new OrchestratorError('ERR_USAGE', `At least ${fewest} workers cannot be left of ${workers}`);
  }
  if (fewest === workers || exchange === 'grpc') return;
  throw new OrchestratorError(
    'ERR_USAGE',
    `exchange: ${exchange} does not work in a run that goes on without some of its workers`,
    'Leave exchange at auto, which is then grpc',
  );
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
