/** Memory of one machine with a state that workers share, which is there as long as one of them lives. */
import { next, type State, type Witness } from './witness.js';
import type { Worker } from './worker.js';

export class SharedMemory {
  state: State | null = null;
  /** The last step to which an update has begun, and the generation that has begun it. */
  #begun = 0;
  #generation = 0;

  begin(step: number, generation: number): void {
    this.#begun = step;
    this.#generation = generation;
  }

  /** The update is done, by whichever of its users. */
  finish(step: number, witness: Witness): void {
    if (this.state?.step === step) return;
    witness.applies(step, this.state, this.#generation);
    this.state = next(this.state!);
  }

  /** Completes an update that somebody has left. */
  mend(witness: Witness): void {
    if (this.state !== null && this.#begun > this.state.step) this.finish(this.#begun, witness);
  }
}

/** What a worker says that has other memory than the others. */
export const STRANGE = 'it shares another state';

/** The members of a generation, until all have come to it. */
export class Meeting {
  /** Somebody has come with other memory than the others. */
  hasStranger = false;
  readonly #come: Worker[] = [];

  /**
   * With the last one, all share the memory that the first of them by rank had, or new memory; who has other memory
   * fails. What only dead ones had is gone: there may have been another generation of the same number, which has not
   * started before its coordinator died.
   */
  come(worker: Worker, members: number, witness: Witness): readonly Worker[] {
    this.#come.push(worker);
    const present = this.#come.filter(({ alive, generation }) => alive && generation === worker.generation);
    if (present.length < members) return [];
    const [first = null] = present.filter(({ shared }) => shared !== null).sort((a, b) => a.rank - b.rank);
    const memory = first?.shared ?? new SharedMemory();
    const strangers = present.filter(({ shared }) => shared !== null && shared !== memory);
    const failure = { code: 'ERR_SHARED_MEMORY', message: STRANGE, hint: '' };
    for (const one of strangers) one.say('failure', failure);
    this.hasStranger = strangers.length > 0;
    if (this.hasStranger) return [];
    memory.mend(witness);
    for (const one of present) one.shared = memory;
    return present;
  }
}
