/** Whether a disk has room for the checkpoints of a run. */
import { OrchestratorError } from '../errors.js';
import { freeBytes } from '../files/io.js';
import { bytes } from '../text/quantities.js';
import { listCheckpoints, type Retention } from './retention.js';
import { LEFT_FREE } from './store.js';

/** What a run will write. */
export interface CheckpointNeed {
  /** Bytes of one checkpoint. */
  bytes: number;
  retention: Retention;
  /** Steps of the whole run, and between two checkpoints; 0 = only at the end. */
  steps: number;
  every: number;
}

export interface Room {
  /** Bytes of one checkpoint. */
  bytes: number;
  /** The largest number of checkpoints of the run at one time. */
  most: number;
  /** Free bytes on the disk; null = unknown. */
  free: number | null;
  /** Not even one checkpoint can be written. */
  refusal: OrchestratorError | null;
  /** The disk is too small for all checkpoints that will be kept and one that is being written. */
  warning: string | null;
}

/**
 * Compares what a run will write into its `checkpoints` folder with the free space there. Checkpoints that are
 * there already are not counted again.
 */
export async function checkRoom(root: string, need: CheckpointNeed): Promise<Room> {
  const { bytes: size, retention } = need;
  const most = mostAtOnce(need);
  const free = await freeBytes(root);
  const room: Room = { bytes: size, most, free, refusal: null, warning: null };
  if (free === null) return room;
  const one = `A checkpoint of this run needs ${bytes(size)}`;
  if (size + LEFT_FREE > free) {
    room.refusal = new OrchestratorError(
      'ERR_CHECKPOINT_WRITE',
      `${one} and ${bytes(LEFT_FREE)} for its records, and the disk of ${root} has ${bytes(free)} free: there is no room for one checkpoint`,
      'Free some space, or use a --run-dir on another disk',
    );
    return room;
  }
  // A path where no folder can be is refused elsewhere, with the reason.
  const present = (await listCheckpoints(root).catch(() => [])).length;
  const count = Math.max(1, most - present);
  if (count * size + LEFT_FREE > free) {
    room.warning =
      `${one}, and ${root} will hold up to ${most} at once${present === 0 ? '' : `, of which ${present} are there`}: ` +
      `${bytes(count * size)} more, of which ${bytes(free)} are free. When the disk is full, checkpoints are left out; ${savingOf(retention)}`;
  }
  return room;
}

/** How a run keeps fewer checkpoints. */
function savingOf({ keep, keepEvery }: Retention): string {
  const keys = [
    ...(keepEvery === 0 ? [] : ['raise checkpoint.keep_every (0 = none)']),
    ...(keep === 1 ? [] : ['lower checkpoint.keep']),
  ];
  return ['free some space', ...keys].join(', or ');
}

/** The largest number of checkpoints at one time: while one is written, those that are kept are still there. */
function mostAtOnce({ steps, every, retention: { keep, keepEvery, keepBest } }: CheckpointNeed): number {
  const written = every === 0 ? 1 : Math.ceil(steps / every);
  const milestones = keepEvery === 0 ? 0 : Math.floor(steps / keepEvery);
  return Math.min(written, keep + milestones + (keepBest ? 1 : 0) + 1);
}
