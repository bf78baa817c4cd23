/** The invariants of a run, checked at every moment of a simulation. */
import type { Orders, Prepared } from '../../../src/rpc/proto.js';

/** What a worker has in its memory. */
export interface State {
  step: number;
  value: number;
}

export const INITIAL: State = { step: 0, value: 1 };

/** The state after the next step, a function of the state before it. */
export function next({ step, value }: State): State {
  return { step: step + 1, value: Math.imul(value ^ (step + 0x9e3779b9), 0x85ebca6b) >>> 0 };
}

/** What a member held when a generation formed, and what it holds when it starts. */
export interface Started {
  before: number | null;
  state: State | null;
  /** The instruction set with which it computes. */
  isa: string;
}

export class Witness {
  /** The last committed step. */
  committed = 0;
  /** The last step that was committed before the run went back, if it has. */
  #mostCommitted = 0;
  readonly published: number[] = [];
  validated: number[] = [];
  /** The steps whose validation the workers were ordered to make. */
  readonly #toValidate = new Set<number>();
  /** How many generations have started. */
  generations = 0;
  #generation = 0;
  /** The instruction set with which the last generation computes. */
  #isa: string | null = null;
  readonly #truth: State[] = [INITIAL];

  /** The run begins with the checkpoint of a step, computed with this instruction set, or ''. Returns its path. */
  resumes(step: number, isa: string): string {
    this.committed = step;
    this.#isa = isa || null;
    this.published.push(step);
    return `${step}:${this.truth(step)}`;
  }

  /** A step is committed once, in order, and computed by the members of the generation that started last. */
  commits(step: number, prepared: readonly Prepared[], slots: number): void {
    this.#must(step === this.committed + 1, `step ${step} was committed after step ${this.committed}`);
    this.committed = step;
    this.#mostCommitted = Math.max(this.#mostCommitted, step);
    const computed = prepared.flatMap((of) => of.slots.map(({ slot }) => slot));
    this.#must(
      computed.length === slots && computed.every((slot, i) => slot === i),
      `step ${step} has the slots ${computed}`,
    );
    for (const { numbers } of prepared) {
      this.#must(numbers.generation === this.#generation, `step ${step} mixes generations`);
    }
  }

  /** Another coordinator goes on after a step: later ones are committed again. None before a checkpoint is. */
  continues(from: number): void {
    this.#must(from <= this.committed, `the run goes on after step ${from}, which was not committed`);
    this.#must(from >= (this.published.at(-1) ?? 0), `step ${from} is before the last checkpoint`);
    this.committed = from;
    this.validated = this.validated.filter((step) => step <= from);
  }

  /** The gradient of a step is that of the true state before it, at the first time and again. */
  computes(step: number, held: State | null): void {
    this.#must(held?.step === step - 1, `step ${step} was computed from step ${held?.step}`);
    this.#must(held?.value === this.truth(step - 1), `step ${step} was computed from a wrong state`);
  }

  /**
   * Nobody applies a step before it is committed, or to another state than that after the step before. A member of an
   * earlier generation may not know that the run has gone back since.
   */
  applies(step: number, held: State | null, generation: number): void {
    this.#must(held?.step === step - 1, `step ${step} was applied to step ${held?.step}`);
    const committed = generation < this.#generation ? this.#mostCommitted : this.committed;
    this.#must(step <= committed, `step ${step} was applied before it was committed`);
  }

  /** All that are ready hold one state and compute alike, and no committed step that one of them held is lost. */
  starts(generation: number, from: number, members: readonly Started[]): void {
    this.generations++;
    this.#generation = generation;
    // A run that has lost all that it had begins again, with another one perhaps.
    if (from === 0 || this.#isa === null) this.#isa = members[0]!.isa;
    for (const { before, state, isa } of members) {
      this.#must(isa === this.#isa, `generation ${generation} computes with ${isa}, not ${this.#isa}`);
      this.#must(state?.step === from, `generation ${generation} starts from ${from}, not ${state?.step}`);
      this.#must(state?.value === this.truth(from), `generation ${generation} starts from a wrong state`);
      // Who was away since the run went back may hold a later step, which is not committed any more.
      const isLost = before !== null && before > from && before <= this.committed;
      this.#must(!isLost, `generation ${generation} starts from ${from} and loses ${before}`);
    }
  }

  /** A checkpoint is that of a committed step, later than those before it, and of the true state. */
  publishes({ step, value }: State): void {
    this.#must(step <= this.committed, `the checkpoint of step ${step} is not of a committed step`);
    this.#must(step > (this.published.at(-1) ?? 0), `the checkpoint of step ${step} follows later ones`);
    this.#must(value === this.truth(step), `the checkpoint of step ${step} holds a wrong state`);
    this.published.push(step);
  }

  /** What the workers are ordered to do after a step; whatever they were ordered after later ones does not count. */
  orders({ step, validate }: Orders): void {
    for (const other of this.#toValidate) if (other >= step!) this.#toValidate.delete(other);
    if (validate) this.#toValidate.add(step!);
  }

  /** Whether the workers were ordered to validate the step, and the validation has not been reported. */
  isValidating(step: number): boolean {
    return this.#toValidate.has(step) && !this.validated.includes(step);
  }

  /** A validation is reported once. */
  validates(step: number): void {
    this.#must(!this.validated.includes(step), `the validation of step ${step} was reported twice`);
    this.validated.push(step);
  }

  truth(step: number): number {
    while (this.#truth.length <= step) this.#truth.push(next(this.#truth.at(-1)!));
    return this.#truth[step]!.value;
  }

  #must(holds: boolean, otherwise: string): void {
    if (!holds) throw new Error(otherwise);
  }
}
