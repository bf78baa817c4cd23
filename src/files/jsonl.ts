/** Files of one JSON object per line that grow during a run: ledger, metrics and journal. */
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { setImmediate as othersTurn } from 'node:timers/promises';
import { errnoOf, openForAppending, readFailure, systemFailure } from './io.js';
import { isMapping, jsonOrNull, type Mapping } from './json.js';

const READ_BYTES = 1 << 20;
/** Other work of the process waits for the reading of so many lines of a long file. */
const LINES_AT_ONCE = 1000;
/** Damaged lines that a message names. */
const NAMED_LINES = 5;

const REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: 'Free some space',
  EDQUOT: 'Free some space',
  EFBIG: 'Raise the limit (ulimit -f unlimited)',
};

/** A part of a file from its beginning. */
interface Leading {
  /** Number of lines. */
  lines: number;
  bytes: number;
  /** Numbers, from 1, of damaged lines: complete ones that are not a JSON object. */
  damaged: number[];
}

/**
 * The lines of a file before the first that `keep` refuses. A damaged line among them belongs to them, so that
 * it does not take the lines behind it along; those at the end do not, nor does an incomplete line, which a
 * killed process may leave. Nothing is changed; a file that is missing has no lines.
 */
export function leadingLines(path: string, keep: (line: Mapping) => boolean): Leading {
  const lines = leadingOf(path, keep);
  for (;;) {
    const { done, value } = lines.next();
    if (done) return value;
  }
}

/** The same of a file that may be long: other work of the process gets its turn in between. */
export async function leadingLinesOfLong(path: string, keep: (line: Mapping) => boolean): Promise<Leading> {
  const lines = leadingOf(path, keep);
  for (let read = 1; ; read++) {
    const { done, value } = lines.next();
    if (done) return value;
    if (read % LINES_AT_ONCE === 0) await othersTurn();
  }
}

/** Gives way after each line. */
function* leadingOf(path: string, keep: (line: Mapping) => boolean): Generator<undefined, Leading> {
  const leading: Leading = { lines: 0, bytes: 0, damaged: [] };
  let number = 0;
  for (const { line, end } of completeLines(path)) {
    yield;
    number++;
    const object = parseLine(line);
    if (object === null) {
      leading.damaged.push(number);
      continue;
    }
    if (!keep(object)) break;
    Object.assign(leading, { lines: number, bytes: end });
  }
  return leading;
}

/** "FILE has damaged lines: 3, 7" for damage that the user must hear of; null where there is none. */
export function damageOf(path: string, { damaged }: Leading): string | null {
  if (damaged.length === 0) return null;
  const more = damaged.length > NAMED_LINES ? ` and ${damaged.length - NAMED_LINES} more` : '';
  const numbers = `${damaged.slice(0, NAMED_LINES).join(', ')}${more}`;
  return `${path}: not a JSON object in line ${numbers}; what was recorded there is lost, training is not affected`;
}

/** Complete lines from an offset on, each with the offset after it; none of a file that is missing. */
export function* completeLines(path: string, from = 0): Generator<{ line: string; end: number }> {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw readFailure('open', path, error);
  }
  try {
    const chunk = Buffer.alloc(READ_BYTES);
    let rest = Buffer.alloc(0);
    let offset = from;
    for (let at = from; ; ) {
      const got = readSync(fd, chunk, 0, chunk.length, at);
      if (got === 0) return;
      at += got;
      rest = Buffer.concat([rest, chunk.subarray(0, got)]);
      for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
        offset += end + 1;
        yield { line: rest.toString('utf8', 0, end), end: offset };
        rest = rest.subarray(end + 1);
      }
    }
  } catch (error) {
    throw errnoOf(error) === null ? error : readFailure('read', path, error);
  } finally {
    closeSync(fd);
  }
}

export class JsonlFile {
  readonly path: string;
  readonly #fd: number;

  /** Opens the file for appending, and creates it if it is missing. */
  constructor(path: string) {
    this.path = path;
    this.#fd = this.#guard('open', () => openForAppending(path));
  }

  get bytes(): number {
    return fstatSync(this.#fd).size;
  }

  /** Cuts the file to its first `bytes` bytes; see leadingLines. */
  cutTo(bytes: number): void {
    this.#guard('cut', () => {
      if (this.bytes > bytes) ftruncateSync(this.#fd, bytes);
    });
  }

  /** Appends a line. It is then with the operating system: it survives this process, but not a power cut. */
  append(object: object): void {
    const bytes = Buffer.from(`${JSON.stringify(object)}\n`);
    this.#guard('write to', () => {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    });
  }

  /** Flushes everything appended to disk. */
  sync(): void {
    this.#guard('write to', () => fsyncSync(this.#fd));
  }

  close(): void {
    closeSync(this.#fd);
  }

  #guard<T>(what: string, act: () => T): T {
    try {
      return act();
    } catch (error) {
      const hint = REMEDIES[errnoOf(error) ?? ''] ?? null;
      throw systemFailure('ERR_FILE_WRITE', what, this.path, error, hint);
    }
  }
}

/** The object of a line; null if it is none. */
export function parseLine(line: string): Mapping | null {
  const value = jsonOrNull(line);
  return isMapping(value) ? value : null;
}
