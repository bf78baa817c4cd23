/** Files of one JSON object per line that grow during a run: ledger, metrics and journal. */
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { errnoOf, systemFailure } from './io.js';
import { isMapping, type Mapping } from './json.js';

const READ_BYTES = 1 << 20;

const REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: 'Free some space',
  EDQUOT: 'Free some space',
  EFBIG: 'Raise the limit (ulimit -f unlimited)',
};

export class JsonlFile {
  readonly path: string;
  readonly #fd: number;

  /** Opens the file for appending, and creates it if it is missing. */
  constructor(path: string) {
    this.path = path;
    this.#fd = this.#guard('open', () => openSync(path, 'a+'));
  }

  /**
   * Keeps the leading lines that `keep` accepts, and truncates the file at the first line that it refuses or
   * that is incomplete (a killed process may leave half a line). Returns the number of lines kept.
   */
  cutBack(keep: (line: Mapping) => boolean): number {
    let end = 0;
    let kept = 0;
    for (const { line, next } of this.#lines()) {
      const object = parse(line);
      if (object === null || !keep(object)) break;
      end = next;
      kept++;
    }
    this.#guard('cut', () => {
      if (fstatSync(this.#fd).size > end) ftruncateSync(this.#fd, end);
    });
    return kept;
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

  /** Complete lines, each with the file offset after it. */
  *#lines(): Generator<{ line: string; next: number }> {
    const chunk = Buffer.alloc(READ_BYTES);
    let rest = Buffer.alloc(0);
    let offset = 0;
    for (let at = 0; ; ) {
      const got = this.#guard('read', () => readSync(this.#fd, chunk, 0, chunk.length, at));
      if (got === 0) return;
      at += got;
      rest = Buffer.concat([rest, chunk.subarray(0, got)]);
      for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
        offset += end + 1;
        yield { line: rest.toString('utf8', 0, end), next: offset };
        rest = rest.subarray(end + 1);
      }
    }
  }

  #guard<T>(what: string, act: () => T): T {
    try {
      return act();
    } catch (error) {
      const remedy = REMEDIES[errnoOf(error) ?? ''];
      const hint = remedy === undefined ? null : `${remedy}, and resume the run; nothing committed is lost`;
      throw systemFailure('ERR_FILE_WRITE', what, this.path, error, hint);
    }
  }
}

function parse(line: string): Mapping | null {
  try {
    const value: unknown = JSON.parse(line);
    return isMapping(value) ? value : null;
  } catch {
    return null;
  }
}
