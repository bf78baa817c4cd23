/** Tells which processes were killed because memory was short. */
import { outOfMemoryKills } from '../memory/machine.js';
import type { Exit, ProcessEnd } from '../signals.js';

export class Exits {
  /** Processes of the control group that were killed for lack of memory, without those whose end was explained. */
  #known = outOfMemoryKills();

  of(ended: ProcessEnd): Exit {
    const outOfMemory =
      ended.signal === 'SIGKILL' && this.#known !== null && (outOfMemoryKills() ?? 0) > this.#known;
    // Each explains one end, so that a later kill by somebody else is not taken for another.
    if (outOfMemory) this.#known = this.#known! + 1;
    return { ...ended, outOfMemory };
  }
}
