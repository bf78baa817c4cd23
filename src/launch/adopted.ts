/** Workers of a launch that is gone, on this machine: not children of this process, and yet to end with their run. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, type ProcessId, processId } from '../files/processes.js';
import { signalGroup } from './children.js';

const POLL_MS = 50;

export class Adopted {
  readonly #processes: ProcessId[] = [];

  /** @param pid A process that lives now, and leads a group. */
  add(pid: number): void {
    this.#processes.push(processId(pid));
  }

  signal(signal: NodeJS.Signals): void {
    for (const one of this.#processes) if (isAlive(one)) signalGroup(one, signal);
  }

  /** Resolves when all of them have ended. */
  async ended(): Promise<void> {
    while (this.#processes.some(isAlive)) await sleep(POLL_MS, null, { ref: false });
  }
}
