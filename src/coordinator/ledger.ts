/** The committed steps, and what they gave, to compare a step that is run again. */
import { createHash } from 'node:crypto';
import { OrchestratorError } from '../errors.js';
import type { Fault } from '../fault.js';
import type { Prepared } from '../rpc/proto.js';

export class Ledger {
  /** Digests of the steps after `#settled` that may be run again: all of them in a run without checkpoints. */
  #digests = new BigUint64Array(1_024);
  #settled: number;
  #committed: number;

  /** @param committed The last step that was committed before. */
  constructor(committed: number) {
    this.#settled = committed;
    this.#committed = committed;
  }

  /** The last committed step. */
  get committed(): number {
    return this.#committed;
  }

  /** Commits the step after the last, or compares one that is run again: the promise checks itself. */
  enter(step: number, prepared: readonly Prepared[]): 'new' | 'again' | Fault {
    const digest = digestOf(prepared);
    const index = step - this.#settled - 1;
    if (step > this.#committed) {
      this.#committed = step;
      if (index === this.#digests.length) this.#resize(2 * index);
      this.#digests[index] = digest;
      return 'new';
    }
    if (this.#digests[index] === digest) return 'again';
    return new OrchestratorError(
      'ERR_STATE_MISMATCH',
      `Step ${step} was run again, and its rows, losses or gradient differ from those that were committed`,
      'One of the machines may have faulty memory or a faulty processor',
    );
  }

  /** Neither this step nor one before it is run again. */
  settle(step: number): void {
    if (step <= this.#settled) return;
    this.#digests = this.#digests.slice(step - this.#settled);
    this.#settled = step;
    if (this.#digests.length < 1_024) this.#resize(1_024);
  }

  #resize(length: number): void {
    const former = this.#digests;
    this.#digests = new BigUint64Array(length);
    this.#digests.set(former);
  }
}

/** What a step gave, whoever computed which slots. */
function digestOf(prepared: readonly Prepared[]): bigint {
  const slots = prepared.flatMap(({ slots }) => slots).sort((a, b) => a.slot - b.slot);
  const numbers = slots.flatMap(({ slot, samples, losses }) => [slot, ...samples, ...losses]);
  const bytes = Float64Array.from([prepared[0]!.gradientNorm, ...numbers]);
  return createHash('sha256').update(bytes).digest().readBigUInt64LE();
}
