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
  const { every, keep, keep_every: keepEvery } = checkpoint;
  return checkRoom(join(runDir, CHECKPOINTS), {
    bytes: checkpointBytes,
    retention: { keep, keepEvery },
    steps: schedule.steps,
    every,
  });
}
