/** How far the run of a folder has come, as another process sees it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { listCheckpoints } from '../checkpoint/retention.js';
import { FileReader } from '../files/reader.js';

/** Bytes from the end of the ledger that are read first; a line may be longer. */
const TAIL_BYTES = 1 << 16;

export interface Progress {
  /** The last committed step; 0 = none. */
  step: number;
  /** The last checkpoint, or null. */
  checkpoint: { step: number; path: string } | null;
}

export async function progressOf(runDir: string): Promise<Progress> {
  const [checkpoint = null] = await listCheckpoints(join(runDir, CHECKPOINTS));
  return { step: Math.max(lastStep(join(runDir, 'ledger.jsonl')), checkpoint?.step ?? 0), checkpoint };
}

/** The step of the last complete line, of which only the end of the file is read; 0 if there is none. */
export function lastStep(ledger: string): number {
  if (!existsSync(ledger)) return 0;
  return FileReader.using(ledger, (reader) => {
    for (let length = TAIL_BYTES; ; length *= 2) {
      const from = Math.max(0, reader.bytes - length);
      const text = reader.read(from, reader.bytes - from, 'its end').toString('latin1');
      const end = text.lastIndexOf('\n');
      const start = text.lastIndexOf('\n', end - 1) + 1;
      if (from > 0 && (end < 0 || start === 0)) continue;
      return Number(/^{"step":(\d+),/.exec(end < 0 ? '' : text.slice(start, end))?.[1] ?? 0);
    }
  });
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
