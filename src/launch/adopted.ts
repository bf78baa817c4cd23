/** Workers of a launch that is gone, on this machine: not children of this process, and yet to end with their run. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, type ProcessId } from '../files/processes.js';
import { signalGroup } from './children.js';

const POLL_MS = 50;

export class Adopted {
  readonly #processes: ProcessId[] = [];

  /** @param process It leads a group. */
  add(process: ProcessId): void {
    this.#processes.push(process);
  }

  /** Sends a signal to them and to what they have started. */
  signal(signal: NodeJS.Signals): void {
    for (const one of this.#processes) if (isAlive(one)) signalGroup(one, signal);
  }

  /** Asks them to end, as a person would: what they have started is theirs to end. */
  stop(): void {
    for (const one of this.#processes) {
      try {
        if (isAlive(one)) process.kill(one.pid, 'SIGTERM');
      } catch {
        // It has ended meanwhile.
      }
    }
  }

  /** Resolves when all of them have ended, or soon after the wait is given up. Until then this process does not end. */
  async ended(givenUp: AbortSignal): Promise<void> {
    while (!givenUp.aborted && this.#processes.some(isAlive)) await sleep(POLL_MS);
  }
}

/** Resolves when a process has ended that is no child of this one, which may end before. */
export async function endOf(process: ProcessId): Promise<void> {
  while (isAlive(process)) await sleep(POLL_MS, null, { ref: false });
}
