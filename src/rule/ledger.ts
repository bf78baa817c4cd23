/** The committed steps, and what they gave, to compare a step that is run again. */
import { createHash } from 'node:crypto';
import { OrchestratorError } from '../errors.js';
import type { Fault } from '../fault.js';
import type { Prepared } from '../rpc/proto.js';

/** The digest of what a committed step gave, from the ledger's file; null: it does not have it. */
type Recorded = (step: number) => string | null;

export class Ledger {
  /** Digests of the steps that may be run again. */
  readonly #digests = new Map<number, string>();
  readonly #recorded: Recorded;
  #committed: number;

  /**
   * @param committed The last step that was committed before.
   * @param recorded What the coordinator before this one has recorded.
   */
  constructor(committed: number, recorded: Recorded = () => null) {
    this.#committed = committed;
    this.#recorded = recorded;
  }

  /** The steps of the coordinator before this one count, up to this one. */
  recover(committed: number): void {
    this.#committed = Math.max(this.#committed, committed);
  }

  /**
   * The run continues after this step, and its records end there. Later steps are committed again, and compared with
   * what was recorded.
   *
   * @returns how many of them there are.
   */
  begin(from: number): number {
    const again = Math.max(0, this.#committed - from);
    for (let step = from + 1; step <= this.#committed; step++) {
      const digest = this.#recorded(step);
      if (digest !== null) this.#digests.set(step, digest);
    }
    this.#committed = from;
    return again;
  }

  /** The last committed step. */
  get committed(): number {
    return this.#committed;
  }

  /** Commits the step after the last, or compares one that is run again: the promise checks itself. */
  enter(step: number, prepared: readonly Prepared[]): { digest: string; isNew: boolean } | { fault: Fault } {
    const digest = digestOf(prepared);
    const isNew = step > this.#committed;
    const before = this.#digests.get(step) ?? (isNew ? null : this.#recorded(step));
    if (before !== null && before !== digest) {
      return {
        fault: new OrchestratorError(
          'ERR_STATE_MISMATCH',
          `Step ${step} was run again, and its rows, losses or gradient differ from those that were committed`,
          'One of the machines may have faulty memory or a faulty processor',
        ),
      };
    }
    if (isNew) {
      this.#committed = step;
      this.#digests.set(step, digest);
    }
    return { digest, isNew };
  }

  /** Neither this step nor one before it is run again. */
  settle(step: number): void {
    for (const earlier of this.#digests.keys()) if (earlier <= step) this.#digests.delete(earlier);
  }
}

/** SHA-256 of what a step gave, whoever computed which slots. */
function digestOf(prepared: readonly Prepared[]): string {
  const slots = prepared.flatMap(({ slots }) => slots).sort((a, b) => a.slot - b.slot);
  const numbers = slots.flatMap(({ slot, samples, losses }) => [slot, ...samples, ...losses]);
  const bytes = Float64Array.from([prepared[0]!.gradientNorm, ...numbers]);
  return createHash('sha256').update(bytes).digest('hex');
}
