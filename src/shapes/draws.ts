/** Random draws of the shapes world. */
import { type DrawKey, drawUniforms, normalPair, STREAM } from '../random/philox.js';

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
  readonly #key: DrawKey;
  #uniforms = new Float64Array(0);
  #used = 0;
  #group = 0;

  /**
   * @param seed in [0, 2^64).
   * @param id in [0, 2^53): the picture, word or prompt that the draws belong to.
   */
  constructor(seed: bigint, purpose: number, id: number) {
    this.#key = { seed, stream: STREAM.dataset, step: purpose, sampleId: id };
  }

  /** A uniform number in (0, 1), of 32 bits. */
  uniform(): number {
    if (this.#used === this.#uniforms.length) {
      this.#uniforms = drawUniforms(this.#key, this.#group++);
      this.#used = 0;
    }
    return this.#uniforms[this.#used++]!;
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
