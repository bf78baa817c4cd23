/** Pseudorandom permutations without a table. */
import { philox4x32, STREAM } from '../random/philox.js';

const ROUNDS = 6;

/**
 * A permutation of 0 ... size - 1 as a function of a key: a Feistel network on the next even number of bits,
 * repeated until the result is below `size`. It needs no table, so its cost does not depend on `size`, and it
 * can be inverted.
 */
export class Permutation {
  readonly size: number;
  readonly #epoch: number;
  readonly #part: number;
  readonly #index: number;
  /** 2 to the power of half the number of bits. */
  readonly #base: number;
  readonly #words = new Uint32Array(4);
  readonly #k0: number;
  readonly #k1: number;

  /** `key` < 2^64, `epoch` < 2^32, `part` < 2^24, `index` < 2^28 and the size determine the permutation. */
  constructor(size: number, key: bigint, epoch: number, part: number, index: number) {
    this.size = size;
    this.#epoch = epoch;
    this.#part = part;
    this.#index = index;
    this.#base = 2;
    while (this.#base * this.#base < size) this.#base *= 2;
    this.#k0 = Number(key & 0xffffffffn);
    this.#k1 = Number((key >> 32n) & 0xffffffffn);
  }

  apply(i: number): number {
    let x = i;
    do {
      const base = this.#base;
      let left = Math.floor(x / base);
      let right = x % base;
      for (let round = 0; round < ROUNDS; round++) [left, right] = [right, left ^ this.#mix(right, round)];
      x = left * base + right;
    } while (x >= this.size);
    return x;
  }

  invert(i: number): number {
    let x = i;
    do {
      const base = this.#base;
      let left = Math.floor(x / base);
      let right = x % base;
      for (let round = ROUNDS - 1; round >= 0; round--)
        [left, right] = [right ^ this.#mix(left, round), left];
      x = left * base + right;
    } while (x >= this.size);
    return x;
  }

  #mix(value: number, round: number): number {
    const counter3 = (STREAM.plan << 24) | this.#part;
    philox4x32(this.#words, value, this.#index * 16 + round, this.#epoch, counter3, this.#k0, this.#k1);
    return this.#words[0]! & (this.#base - 1);
  }
}
