/** Parts of large files of JSON lines: from their end, and from a step on. Nothing else of a file is read. */
import { existsSync } from 'node:fs';
import { completeLines } from './jsonl.js';
import { FileReader } from './reader.js';

/** Bytes that are read at once from the end of a file; a line may be longer. */
const BLOCK = 1 << 16;
const NEWLINE = 10;

/**
 * The complete lines of a file, the last first, each with the offsets at which it begins and after its end; none of
 * a file that is missing.
 *
 * @param upTo Offset of the end of the last of these lines.
 */
export function* linesFromEnd(
  path: string,
  upTo = Number.POSITIVE_INFINITY,
): Generator<{ line: string; start: number; end: number }> {
  if (!existsSync(path)) return;
  const reader = FileReader.open(path);
  try {
    let from = Math.min(upTo, reader.bytes);
    /** What was read and not given yet; it begins at `from`. */
    let held: Buffer = Buffer.alloc(0);
    let isComplete = false;
    for (;;) {
      const newline = held.lastIndexOf(NEWLINE);
      if (newline < 0 && from > 0) {
        const length = Math.min(from, Math.max(BLOCK, held.length));
        from -= length;
        held = Buffer.concat([reader.read(from, length, 'its last lines'), held]);
        continue;
      }
      // What follows the last line end is not complete.
      const start = from + newline + 1;
      if (isComplete) yield { line: held.toString('utf8', newline + 1), start, end: from + held.length + 1 };
      if (newline < 0) return;
      isComplete = true;
      held = held.subarray(0, newline);
    }
  } finally {
    reader.close();
  }
}

/** The step of the last complete line of a ledger; 0 if there is none. */
export function lastStep(ledger: string): number {
  const [last] = linesFromEnd(ledger);
  return Number(/^{"step":(\d+),/.exec(last?.line ?? '')?.[1] ?? 0);
}

/**
 * Where in a file of ascending steps the line of a step, or of the first one after it, begins; the end of the
 * file's complete lines if there is none.
 *
 * @param pattern Matches the lines that begin a step; its first group is the step. Others may be between them.
 */
export function offsetOfStep(path: string, step: number, pattern: RegExp): number {
  if (!existsSync(path)) return 0;
  const isBefore = (line: string) => {
    const [, found] = pattern.exec(line) ?? [];
    return found === undefined ? null : Number(found) < step;
  };
  let low = 0;
  let high = FileReader.using(path, ({ bytes }) => bytes);
  while (high - low > BLOCK) {
    const middle = Math.floor((low + high) / 2);
    const found = firstWithin(path, middle, high, isBefore);
    if (found?.before) low = found.end;
    else high = middle;
  }
  let offset = low;
  for (const { line, end } of completeLines(path, low)) {
    if (isBefore(line) === false) return offset;
    offset = end;
  }
  return offset;
}

/** The first line that begins a step and lies within (from, to); null if there is none. */
function firstWithin(path: string, from: number, to: number, isBefore: (line: string) => boolean | null) {
  let isWhole = false;
  for (const { line, end } of completeLines(path, from)) {
    if (end > to) return null;
    const before = isWhole ? isBefore(line) : null;
    if (before !== null) return { before, end };
    isWhole = true;
  }
  return null;
}
