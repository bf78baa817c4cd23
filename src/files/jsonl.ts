/** Files of one JSON object per line, appended to while a run goes on: ledger, metrics and journal. */
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { OrchestratorError } from '../errors.js';

const READ_BYTES = 1 << 20;

export class JsonlFile {
  readonly path: string;
  readonly #fd: number;

  /** Opens for appending; makes the file where it is missing. */
  constructor(path: string) {
    this.path = path;
    this.#fd = this.#guard('open', () => openSync(path, 'a+'));
  }

  /**
   * Keeps lines as long as `keep` says so, and cuts the file at the first that it refuses, or that is not whole (a
   * killed process may leave half a line). Returns the kept objects' number.
   */
  cutBack(keep: (line: Record<string, unknown>) => boolean): number {
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

  /** Returns when the line is with the operating system: it survives this process, not a power cut. */
  append(object: object): void {
    const bytes = Buffer.from(`${JSON.stringify(object)}\n`);
    this.#guard('write to', () => {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    });
  }

  /** Returns when everything appended is on disk. */
  sync(): void {
    this.#guard('write to', () => fsyncSync(this.#fd));
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** Whole lines, each with the offset after it. */
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
      const { code, message } = error as NodeJS.ErrnoException;
      const full = code === 'ENOSPC' || code === 'EDQUOT';
      throw new OrchestratorError('ERR_FILE_WRITE', `Cannot ${what} ${this.path}: ${message}`, {
        cause: error,
        ...(full ? { hint: 'Free some space and resume the run; nothing committed is lost.' } : {}),
      });
    }
  }
}

function parse(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
