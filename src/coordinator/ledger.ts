/** The committed steps, and what they gave, to compare a step that is run again. */
import { createHash } from 'node:crypto';
import { OrchestratorError } from '../errors.js';
import type { Fault } from '../fault.js';
import type { Prepared } from '../rpc/proto.js';

export class Ledger {
  /**
   * Digests of the steps that may be run again, up to the last committed one. Without checkpoints these are all
   * steps, so they are plain numbers in an array: 4 MB of half a million.
   */
  readonly #digests: number[] = [];
  #committed: number;

  /** @param committed The last step that was committed before. */
  constructor(committed: number) {
    this.#committed = committed;
  }

  /** The last committed step. */
  get committed(): number {
    return this.#committed;
  }

  /** Commits the step after the last, or compares one that is run again: the promise checks itself. */
  enter(step: number, prepared: readonly Prepared[]): 'new' | 'again' | Fault {
    const digest = digestOf(prepared);
    if (step > this.#committed) {
      this.#committed = step;
      this.#digests.push(digest);
      return 'new';
    }
    if (this.#digests.at(step - this.#committed - 1) === digest) return 'again';
    return new OrchestratorError(
      'ERR_STATE_MISMATCH',
      `Step ${step} was run again, and its rows, losses or gradient differ from those that were committed`,
      'One of the machines may have faulty memory or a faulty processor',
    );
  }

  /** Neither this step nor one before it is run again. */
  settle(step: number): void {
    this.#digests.splice(0, Math.max(0, this.#digests.length - (this.#committed - step)));
  }
}

/** What a step gave, whoever computed which slots, in 48 bits. */
function digestOf(prepared: readonly Prepared[]): number {
  const slots = prepared.flatMap(({ slots }) => slots).sort((a, b) => a.slot - b.slot);
  const numbers = slots.flatMap(({ slot, samples, losses }) => [slot, ...samples, ...losses]);
  const bytes = Float64Array.from([prepared[0]!.gradientNorm, ...numbers]);
  return createHash('sha256').update(bytes).digest().readUIntBE(0, 6);
}
