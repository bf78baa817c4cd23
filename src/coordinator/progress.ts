/** How far the run of a folder has come, as another process sees it. */
import { join } from 'node:path';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { listCheckpoints } from '../checkpoint/retention.js';
import { lastStep } from '../files/jsonl-seek.js';
import { LEDGER } from './run-dir.js';

interface Progress {
  /** The last committed step; 0 = none. */
  step: number;
  /** The last checkpoint, or null. */
  checkpoint: { step: number; path: string } | null;
}

export async function progressOf(runDir: string): Promise<Progress> {
  const [checkpoint = null] = await listCheckpoints(join(runDir, CHECKPOINTS));
  return { step: Math.max(lastStep(join(runDir, LEDGER)), checkpoint?.step ?? 0), checkpoint };
}

/** "the 3 steps since the checkpoint of step 6 are lost"; null if nothing is. */
export function lossOf({ step, checkpoint }: Progress): string | null {
  const count = step - (checkpoint?.step ?? 0);
  if (count <= 0) return null;
  const [steps, are] = count === 1 ? ['1 step', 'is'] : [`${count} steps`, 'are'];
  return checkpoint === null
    ? `there is no checkpoint yet: ${steps} ${are} lost`
    : `${steps} since the checkpoint of step ${checkpoint.step} ${are} lost`;
}
