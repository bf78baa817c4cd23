/** Whether the disk of a run has room for its checkpoints. */
import { join } from 'node:path';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { checkRoom, type Room } from '../checkpoint/room.js';
import type { Config } from '../config/schema.js';
import type { Estimate } from '../planning/estimate.js';

export function roomOf(
  { schedule, checkpoint }: Config,
  { checkpointBytes }: Estimate,
  runDir: string,
): Promise<Room> {
  const { every, keep, keep_every: keepEvery, keep_best: keepBest } = checkpoint;
  return checkRoom(join(runDir, CHECKPOINTS), {
    bytes: checkpointBytes,
    retention: { keep, keepEvery, keepBest },
    steps: schedule.steps,
    every,
  });
}
