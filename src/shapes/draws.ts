/** Random draws of the shapes world. */
import { drawWords, normalPair, STREAM, uniformOf } from '../random/philox.js';

/** The purpose of a sequence of draws, used as the step in the counter. The numbers must never change. */
export const PURPOSE = {
  /** The scene and the captions of a picture. */
  scene: 0,
  /** Word vectors of the stand-ins for CLIP-L, CLIP-G and T5. */
  words: [1, 2, 3],
  /** Prompts for evaluation; each category has its own purpose, from this number on. */
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

  /**
   * @param seed in [0, 2^64).
   * @param id in [0, 2^53): the picture, word or prompt that the draws belong to.
   */
  constructor(seed: bigint, purpose: number, id: number) {
    this.#seed = seed;
    this.#purpose = purpose;
    this.#id = id;
  }

  /** A uniform number in (0, 1), of 32 bits. */
  uniform(): number {
    if (this.#used === this.#words.length) {
      const key = { seed: this.#seed, stream: STREAM.dataset, step: this.#purpose, sampleId: this.#id };
      this.#words = drawWords(key, this.#group++);
      this.#used = 0;
    }
    return uniformOf(this.#words[this.#used++]!);
  }

  /** One of the values, with equal probability. */
  pick<T>(values: readonly T[]): T {
    return values[Math.floor(this.uniform() * values.length)]!;
  }

  /** A standard normal number. */
  normal(): number {
    return normalPair(this.uniform(), this.uniform())[0];
  }
}
