/**
 * One run of a study, trained and scored by the commands of this program in processes of their own: a run is
 * resumed as any other is, what it takes is given back when it ends, and its failure is its own.
 */
import { closeSync, fstatSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { OrchestratorError } from '../errors.js';
import { openForAppending, writeFailure } from '../files/io.js';
import { FileReader } from '../files/reader.js';
import { type Child, isRunning, signalGroup, startChild } from '../launch/children.js';
import { program } from '../launch/processes.js';
import { lockHeld, lockOwner } from '../native/lock.js';
import { LOCK } from '../run-folder/run-dir.js';
import { describeExit, signalOfCode, stopCodeOf } from '../signals.js';

/** How long the processes of a study that was killed may take to save. */
const ORPHANS_MS = 120_000;
/** How much of the end of a log is searched for the error of a failed run. */
const TAIL_BYTES = 16_384;

/** What a command tells the study that has started it. */
export interface ShareNotice {
  /** How much of its work is done, from 0 to 1. */
  share: number;
}

/** The processes that a study has started; all of them end with it. */
export class Processes {
  readonly #running = new Set<Child>();
  #stopping = false;
  readonly #killAll = () => {
    for (const child of this.#running) if (isRunning(child)) signalGroup(child, 'SIGKILL');
  };

  constructor() {
    process.on('exit', this.#killAll);
  }

  /** Asks every process to stop in order: trainings write a checkpoint. None is started any more. */
  stop(): void {
    this.#stopping = true;
    for (const child of this.#running) if (isRunning(child)) child.process.kill('SIGTERM');
  }

  close(): void {
    this.#killAll();
    process.off('exit', this.#killAll);
  }

  /**
   * Runs a command of this program, whose output goes to the end of a file.
   *
   * @param onShare hears how much of its work the command has done, from 0 to 1, if it tells.
   * @returns whether it ended by itself; false if the study stops.
   * @throws OrchestratorError with the error that it printed, if it failed; or if somebody else stopped it.
   */
  async run(
    name: string,
    parameters: readonly string[],
    log: string,
    onShare: (share: number) => void = () => {},
  ): Promise<boolean> {
    if (this.#stopping) return false;
    const fd = openLog(log);
    // What is there is of calls before this one.
    const { size: from } = fstatSync(fd);
    let child: Child;
    try {
      child = await startChild(name, [...program(), ...parameters], {}, ['ignore', fd, fd, 'ipc']);
    } finally {
      closeSync(fd);
    }
    this.#running.add(child);
    // It may have been asked for while the process was starting.
    if (this.#stopping) child.process.kill('SIGTERM');
    child.process.on('message', (message: ShareNotice) => onShare(message.share));
    const end = await child.exited.finally(() => this.#running.delete(child));
    if (end.code === 0) return true;
    const stopCode = stopCodeOf(end);
    if (stopCode !== null && this.#stopping) return false;
    const exit =
      stopCode === null
        ? describeExit({ ...end, outOfMemory: false })
        : `was stopped by ${signalOfCode(stopCode)}, and not by the study`;
    const what = errorIn(log, from) ?? exit;
    throw new OrchestratorError('ERR_STUDY', `${name}: ${what}`, `Its output is in ${log}`);
  }
}

function openLog(path: string): number {
  try {
    return openForAppending(path);
  } catch (error) {
    throw writeFailure(path, error);
  }
}

/** The last error that a command printed into a file, from this byte on; null if there is none. */
export function errorIn(log: string, from: number): string | null {
  const text = FileReader.using(log, (reader) => {
    const start = Math.min(reader.bytes, Math.max(from, reader.bytes - TAIL_BYTES));
    return reader.read(start, reader.bytes - start, 'its end').toString('utf8');
  });
  return [...text.matchAll(/^error (ERR_[A-Z_]+: .*)$/gm)].at(-1)?.[1] ?? null;
}

/**
 * Waits until nobody uses a run's folder, or until the study stops. The study's own lock is held, so if somebody
 * does, it is what a killed study had started, and is about to stop; or a person.
 */
export async function untilFree(runDir: string, stops: () => boolean): Promise<void> {
  const lock = join(runDir, LOCK);
  const end = performance.now() + ORPHANS_MS;
  for (let owner = lockOwner(lock); owner !== null && !stops(); owner = lockOwner(lock)) {
    if (performance.now() > end) throw lockHeld(lock, owner);
    await sleep(100);
  }
}
