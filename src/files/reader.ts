/** Synchronous reading at given positions, and of small files whole. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { OrchestratorError } from '../errors.js';
import { notRegular, readFailure, unreadable } from './io.js';

/** Reads from an open file at given positions, never beyond the size that the file had when it was opened. */
export class FileReader {
  readonly path: string;
  readonly bytes: number;
  readonly #fd: number;

  private constructor(path: string) {
    this.path = path;
    try {
      // The open is non-blocking, because a named pipe would hang here.
      this.#fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      throw readFailure('open', path, error);
    }
    const status = fstatSync(this.#fd);
    this.bytes = status.size;
    if (status.isFile()) return;
    closeSync(this.#fd);
    throw notRegular(path);
  }

  /** A reader that stays open until close(). */
  static open(path: string): FileReader {
    return new FileReader(path);
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** As read, for many small pieces that follow each other: `window` bytes are read at once. */
  windowed(window: number): (position: number, length: number, what: string) => Buffer {
    let held: Buffer = Buffer.alloc(0);
    let start = 0;
    return (position, length, what) => {
      if (position < start || position + length > start + held.length) {
        const wanted = Math.max(length, Math.min(window, this.bytes - position));
        held = this.read(position, wanted, what);
        start = position;
      }
      return held.subarray(position - start, position - start + length);
    };
  }

  /** Calls `use` with a reader of the file, which is closed afterwards. */
  static using<T>(path: string, use: (reader: FileReader) => T): T {
    const reader = new FileReader(path);
    try {
      return use(reader);
    } finally {
      reader.close();
    }
  }

  /** The bytes [position, position + length); ERR_FILE_TRUNCATED says that `what` is not within the file. */
  read(position: number, length: number, what: string): Buffer {
    const missing = `${what} (${length} bytes at ${position})`;
    if (position < 0 || length < 0 || position + length > this.bytes) throw this.lacks(missing);
    const buffer = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const n = this.#readInto(buffer, done, position + done);
      if (n === 0) throw this.lacks(missing);
      done += n;
    }
    return buffer;
  }

  #readInto(buffer: Buffer, from: number, position: number): number {
    try {
      return readSync(this.#fd, buffer, from, buffer.length - from, position);
    } catch (error) {
      throw unreadable(this.path, position, error);
    }
  }

  /** The error for a file that ends too early. */
  lacks(missing: string): OrchestratorError {
    return new OrchestratorError(
      'ERR_FILE_TRUNCATED',
      `${this.path} is truncated: it has ${this.bytes} bytes and lacks ${missing}`,
    );
  }
}
