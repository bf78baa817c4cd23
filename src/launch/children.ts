/** Child processes that can always be killed together with the processes that they started. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { ProcessEnd } from '../signals.js';
import { printable } from '../text/printable.js';
import { counted } from '../text/quantities.js';

/** Longest line of a child that is passed on in one piece. */
const MAX_LINE = 16_384;

export interface Child {
  /** "coordinator", "worker 1" */
  name: string;
  pid: number;
  process: ChildProcess;
  /** Resolves when the process has ended and all its output has been read. */
  exited: Promise<ProcessEnd>;
}

/**
 * Starts a command in a process group of its own, so that signals of the terminal reach only the launcher,
 * and killing the group also kills grandchildren.
 *
 * @param input All that it reads from its standard input; null: the caller writes there, and ends it.
 */
export async function startChild(
  name: string,
  [file, ...parameters]: readonly string[],
  environment: Readonly<Record<string, string>>,
  stdio: StdioOptions,
  input: string | null = '',
): Promise<Child> {
  const env = { ...process.env, ...environment };
  // Messages keep numbers that JSON does not have, such as infinity.
  const child = spawn(file!, parameters, { detached: true, env, stdio, serialization: 'advanced' });
  await once(child, 'spawn');
  // It may end before it has read anything.
  child.stdin?.on('error', () => {});
  if (input !== null) child.stdin?.end(input);
  const exited = once(child, 'close').then(([code, signal]) => ({ code, signal }));
  return { name, pid: child.pid!, process: child, exited };
}

export function isRunning({ process: child }: Child): boolean {
  return child.exitCode === null && child.signalCode === null;
}

/**
 * From now on a process that another one started with a channel (`ipc`) stops in order when that one has ended,
 * as if it had been sent SIGTERM. Others are not affected.
 */
export function stopWithParent(): void {
  const { channel } = process;
  if (channel === undefined) return;
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  // The channel alone does not keep the process running.
  channel.unref();
}

/** Sends a message, or calls `otherwise` if the child has ended, noticed or not (EPIPE). */
export function sendMessage({ process: child }: Child, message: object, otherwise = () => {}): void {
  child.send(message, (error) => {
    if (error !== null) otherwise();
  });
}

/** More messages than these are not kept for a child that takes none, as one that hangs. */
const MOST_WAITING = 1_000;

/**
 * Sends lines as messages. What a child that hangs does not take is dropped, and the number of lines is told
 * when it takes messages again, or has ended.
 *
 * @param otherwise gets the lines of a child that has ended.
 */
export function lineSender(
  child: Child,
  messageOf: (line: string) => object,
  otherwise: (line: string) => void,
): (line: string) => void {
  let waiting = 0;
  let dropped = 0;
  const send = (line: string) => {
    waiting++;
    child.process.send(messageOf(line), (error) => {
      waiting--;
      if (error !== null) otherwise(line);
      if (waiting === 0 && dropped > 0) {
        const count = counted(dropped, 'line');
        dropped = 0;
        send(`${count} of workers could not be passed on, because the coordinator took none`);
      }
    });
  };
  return (line) => {
    if (waiting < MOST_WAITING) send(line);
    else dropped++;
  };
}

/** Sends a signal to the whole group, and does nothing if it no longer exists. */
export function signalGroup({ pid }: Pick<Child, 'pid'>, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // The group no longer exists.
  }
}

/** Passes on a child's output line by line, without control characters. */
export function passLines({ process: child }: Child, write: (line: string) => void): void {
  const pass = (line: string) => write(printable(line, Number.POSITIVE_INFINITY));
  for (const input of [child.stdout, child.stderr]) {
    let rest = '';
    input?.setEncoding('utf8');
    input?.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop()!;
      for (const line of lines) pass(line);
      if (rest.length < MAX_LINE) return;
      pass(rest);
      rest = '';
    });
    input?.once('end', () => {
      if (rest !== '') pass(rest);
    });
  }
}

/** What a child prints, line by line. What it prints before somebody wants it is kept, also when the child has ended. */
export class Lines {
  readonly #kept: string[] = [];
  #write = (line: string) => {
    if (this.#kept.length < MOST_WAITING) this.#kept.push(line);
  };

  constructor(child: Child) {
    passLines(child, (line) => this.#write(line));
  }

  passTo(write: (line: string) => void): void {
    this.#write = write;
    for (const line of this.#kept.splice(0)) write(line);
  }
}
