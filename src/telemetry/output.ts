/**
 * Standard output as a stream that never makes its writer wait. A terminal may stand still for hours (Ctrl-S, an
 * ssh connection without a network), and a pipe may have a reader that does not read; what they do not take is
 * dropped, and the number of lines is told when they take text again.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf } from '../files/io.js';
import { counted } from '../text/quantities.js';

/** More than this is not kept for a reader that takes nothing. */
const MAX_WAITING_BYTES = 1 << 20;
/** A terminal that took nothing is asked again after this time. */
const RETRY_MS = 50;
/** At the end, a reader that takes nothing for this long is given up. */
const PATIENCE_MS = 3_000;

/** Where text goes: it takes everything, and says how much is not written yet. */
interface Destination {
  waiting(): number;
  write(text: string): void;
  close(): void;
}

export class Output {
  readonly #to: Destination;
  readonly #lineOf: (message: string) => string;
  /** Lines that were dropped since the reader took everything. */
  #dropped = 0;
  #dropping = false;

  /** @param lineOf Makes a line, with its end, of what is said of dropped lines. */
  constructor(to: Destination, lineOf = (message: string) => `${message}\n`) {
    this.#to = to;
    this.#lineOf = lineOf;
  }

  /** Whether the reader has taken everything. */
  get idle(): boolean {
    return this.#to.waiting() === 0;
  }

  /** @param text Whole lines. */
  write(text: string): void {
    const waiting = this.#to.waiting();
    this.#dropping = waiting > MAX_WAITING_BYTES || (this.#dropping && waiting > 0);
    if (this.#dropping) {
      this.#dropped += text.split('\n').length - 1;
      return;
    }
    const dropped = this.#dropped;
    this.#dropped = 0;
    this.#to.write(dropped === 0 ? text : this.#lineOf(droppedLines(dropped)) + text);
  }

  /** Waits until the reader has taken everything, but not for one that takes nothing. */
  async close(): Promise<void> {
    let waiting = this.#to.waiting();
    let since = performance.now();
    while (waiting > 0 && performance.now() - since < PATIENCE_MS) {
      await sleep(RETRY_MS / 5);
      const now = this.#to.waiting();
      if (now !== waiting) since = performance.now();
      waiting = now;
    }
    this.#to.close();
  }
}

/** What is said of lines that were not shown. */
export function droppedLines(count: number): string {
  return `${counted(count, 'line')} could not be shown in time; run.log has all messages`;
}

/** `process.stdout` or `process.stderr`. */
export type StandardStream = NodeJS.WriteStream & { fd: number };

/** @param lineOf As of `Output`. */
export function standardOutput(stream: StandardStream, lineOf?: (message: string) => string): Output {
  return new Output((stream.isTTY ? terminal(stream.fd) : null) ?? streamed(stream), lineOf);
}

/** Node.js writes to pipes and sockets without waiting, and keeps what they have not taken. */
function streamed(stream: NodeJS.WriteStream): Destination {
  return {
    waiting: () => stream.writableLength,
    write: (text) => void stream.write(text),
    close: () => {},
  };
}

/**
 * A terminal, on which Node.js would wait. Opened again it has flags of its own, so that nobody else who writes
 * to it finds it non-blocking. Null where it cannot be opened, as after `su`.
 */
function terminal(fd: number): Destination | null {
  try {
    const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
    return nonBlocking(openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY));
  } catch {
    return null;
  }
}

/** A destination for a file descriptor with O_NONBLOCK, which it closes at the end. */
export function nonBlocking(fd: number): Destination {
  let rest = Buffer.alloc(0);
  let timer: NodeJS.Timeout | undefined;
  const drain = () => {
    timer = undefined;
    try {
      while (rest.length > 0) rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      if (errnoOf(error) === 'EAGAIN') timer = setTimeout(drain, RETRY_MS);
      // A terminal or reader that is gone takes nothing any more.
      else rest = Buffer.alloc(0);
    }
  };
  return {
    waiting: () => rest.length,
    write: (text) => {
      rest = Buffer.concat([rest, Buffer.from(text)]);
      if (timer === undefined) drain();
    },
    close: () => {
      clearTimeout(timer);
      closeSync(fd);
    },
  };
}
