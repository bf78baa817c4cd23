/** The wait for the workers of a run: until all have joined, and until all have built their engines. */
import type { Fault } from '../fault.js';
import { type Members, nameOf } from './members.js';

const JOIN_MS = 60_000;
/** Time limit for opening the data and building the engines. Heartbeats tell meanwhile who is alive. */
const BUILD_MS = 1_800_000;
/** From here on the user is told who is still building, at doubling times. */
const SLOW_BUILD_MS = 30_000;

export class Rendezvous {
  readonly #workers: number;
  #since = 0;
  /** When to tell the user next who is still building, in milliseconds since all joined. */
  #nextNote = SLOW_BUILD_MS;

  /** @param workers The number of workers that are waited for. */
  constructor(workers: number) {
    this.#workers = workers;
  }

  /** Workers may join from now on; or all have joined, and from now on they have the time to build. */
  begin(now: number): void {
    this.#since = now;
  }

  /** This process was paused for a time, which does not count. */
  paused(ms: number): void {
    this.#since += ms;
  }

  /** Why the wait has taken too long, or what the user should know of it. */
  check(members: Members, now: number): { fault: Fault } | { note: string } | null {
    const waited = now - this.#since;
    if (members.size < this.#workers) {
      if (waited <= JOIN_MS) return null;
      const message = `${members.size} of ${this.#workers} workers joined within ${JOIN_MS / 1000} s`;
      return { fault: { code: 'ERR_JOIN_TIMEOUT', message, hint: null } };
    }
    const time = `${(waited / 1000).toFixed(0)} s`;
    const builders = members.building.map(nameOf).join(', ');
    if (waited > BUILD_MS) {
      const message = `These workers were still opening the data or building the model after ${time}: ${builders}`;
      return { fault: { code: 'ERR_JOIN_TIMEOUT', message, hint: null } };
    }
    if (waited < this.#nextNote) return null;
    this.#nextNote *= 2;
    return { note: `after ${time} still opening the data or building the model: ${builders}` };
  }
}
