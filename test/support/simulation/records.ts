/** What a run has on its disk: it is there when its coordinator has died, for the next one. */
import type { Action, Former } from '../../../src/rule/events.js';
import type { Witness } from './witness.js';

type ActionOf<T extends Action['type']> = Extract<Action, { type: T }>;

export class Records {
  readonly #witness: Witness;
  /** Digests of the committed steps. */
  readonly #ledger = new Map<number, string>();
  /** The number of the last generation, once the first one has started, and the members of the last that has. */
  #generation: number;
  #members: readonly string[] = [];
  #begun = false;
  /** What the bits of the sums of this generation depend on, and of the one that has started last. */
  #forming = '';
  arithmetic: string | null = null;
  /** The coordinator has not started a generation yet. */
  #isFirst = true;

  constructor(witness: Witness, lastGeneration: number) {
    this.#witness = witness;
    this.#generation = lastGeneration;
  }

  journal({ generation, arithmetic }: ActionOf<'journal'>): void {
    if (this.#begun) this.#generation = generation;
    this.#forming = arithmetic;
  }

  /** The first generation of a coordinator begins after a step: what was recorded of later ones is cut off. */
  started(generation: number, from: number, members: readonly string[]): void {
    if (this.#isFirst) this.#witness.continues(from);
    this.#isFirst = false;
    this.#begun = true;
    this.#generation = generation;
    this.#members = members;
    this.arithmetic = this.#forming;
  }

  /** A step that is committed again gives what it gave before. */
  commit({ step, digest }: ActionOf<'commit'>): void {
    const before = this.#ledger.get(step) ?? digest;
    if (before !== digest) throw new Error(`step ${step} was committed with another result`);
    this.#ledger.set(step, digest);
  }

  /** The coordinator has died, and another one reads what it has left. */
  left(): { lastGeneration: number; former: Former } {
    const { committed, published, validated } = this.#witness;
    this.#isFirst = true;
    const former = {
      members: this.#members,
      arithmetic: this.arithmetic,
      committed,
      validated: (upTo: number) =>
        Math.max(published.at(-1) ?? 0, ...validated.filter((step) => step <= upTo)),
      digestOf: (step: number) => (step <= committed ? this.#ledger.get(step)! : null),
    };
    return { lastGeneration: this.#generation, former };
  }
}
