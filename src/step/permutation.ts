/** Pseudorandom permutations without a table. */
import { philox4x32, STREAM } from '../random/philox.js';

const ROUNDS = 6;

/**
 * A permutation of 0 ... size - 1 as a function of a key: a Feistel network on the next even number of bits,
 * repeated until the result is below `size`. It needs no table, so its cost does not depend on `size`, and it
 * can be inverted.
 */
export class Permutation {
  readonly #size: number;
  /** 2 to the power of half the number of bits. */
  readonly #base: number;
  readonly #mix: (value: number, round: number) => number;

  /** `key` < 2^64, `epoch` < 2^32, `part` < 2^24, `index` < 2^28 and the size determine the permutation. */
  constructor(size: number, key: bigint, epoch: number, part: number, index: number) {
    let base = 2;
    while (base * base < size) base *= 2;
    this.#size = size;
    this.#base = base;
    const words = new Uint32Array(4);
    const counter3 = (STREAM.plan << 24) | part;
    const [k0, k1] = [Number(key & 0xffffffffn), Number((key >> 32n) & 0xffffffffn)];
    this.#mix = (value, round) => {
      philox4x32(words, value, index * 16 + round, epoch, counter3, k0, k1);
      return words[0]! & (base - 1);
    };
  }

  apply(i: number): number {
    return this.#walk(i, false);
  }

  invert(i: number): number {
    return this.#walk(i, true);
  }

  /** The inverse of the network is the network with its halves swapped and its rounds in reverse. */
  #walk(i: number, inverse: boolean): number {
    let x = i;
    do {
      const [high, low] = [Math.floor(x / this.#base), x % this.#base];
      let [left, right] = inverse ? [low, high] : [high, low];
      for (let done = 0; done < ROUNDS; done++) {
        const round = inverse ? ROUNDS - 1 - done : done;
        [left, right] = [right, left ^ this.#mix(right, round)];
      }
      x = inverse ? right * this.#base + left : left * this.#base + right;
    } while (x >= this.#size);
    return x;
  }
}
