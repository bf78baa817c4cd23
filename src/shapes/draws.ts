import { drawWords, normalPair, STREAM, uniformOf } from '../random/philox.js';

/** What a sequence of draws is for; takes the place of the step in the counter. Never renumber. */
export const PURPOSE = {
  /** A picture's scene and captions. */
  scene: 0,
  /** Word vectors of the stand-ins for CLIP-L, CLIP-G and T5. */
  words: [1, 2, 3],
  /** Prompts of evaluation, one purpose for each category from here on. */
  prompts: 16,
} as const;

/** A sequence of random draws: a function of (seed, purpose, id) alone. */
export class Draws {
  readonly #seed: bigint;
  readonly #purpose: number;
  readonly #id: number;
  #words: Uint32Array = new Uint32Array(0);
  #used = 0;
  #group = 0;

  /** @param seed In [0, 2^64). @param id In [0, 2^53): the picture, word or prompt that the draws belong to. */
  constructor(seed: bigint, purpose: number, id: number) {
    this.#seed = seed;
    this.#purpose = purpose;
    this.#id = id;
  }

  /** Uniform in (0, 1), 32 bits. */
  uniform(): number {
    if (this.#used === this.#words.length) {
      const key = { seed: this.#seed, stream: STREAM.dataset, step: this.#purpose, sampleId: this.#id };
      this.#words = drawWords(key, this.#group++);
      this.#used = 0;
    }
    return uniformOf(this.#words[this.#used++]!);
  }

  /** One of the values, all equally likely. */
  pick<T>(values: readonly T[]): T {
    return values[Math.floor(this.uniform() * values.length)]!;
  }

  /** Standard normal. */
  normal(): number {
    return normalPair(this.uniform(), this.uniform())[0];
  }
}
