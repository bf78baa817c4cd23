import { philox4x32, STREAM } from '../random/philox.js';

const ROUNDS = 6;

/**
 * A permutation of 0 ... size - 1 as a function of a key: a Feistel network on the next even number of bits, walked
 * until it lands below `size`. Needs no table, so its cost does not depend on `size`, and it can be inverted.
 */
export class Permutation {
  /** 2 to half the number of bits. */
  private readonly base: number;
  private readonly words = new Uint32Array(4);
  private readonly k0: number;
  private readonly k1: number;

  /**
   * `key` < 2^64, `epoch` < 2^32, `part` < 2^24 and `index` < 2^28 name the permutation: the same four and the same
   * size give the same one.
   */
  constructor(
    readonly size: number,
    key: bigint,
    private readonly epoch: number,
    private readonly part: number,
    private readonly index: number,
  ) {
    this.base = 2;
    while (this.base * this.base < size) this.base *= 2;
    this.k0 = Number(key & 0xffffffffn);
    this.k1 = Number((key >> 32n) & 0xffffffffn);
  }

  apply(i: number): number {
    let x = i;
    do {
      const { base } = this;
      let left = Math.floor(x / base);
      let right = x % base;
      for (let round = 0; round < ROUNDS; round++) [left, right] = [right, left ^ this.mix(right, round)];
      x = left * base + right;
    } while (x >= this.size);
    return x;
  }

  invert(i: number): number {
    let x = i;
    do {
      const { base } = this;
      let left = Math.floor(x / base);
      let right = x % base;
      for (let round = ROUNDS - 1; round >= 0; round--) [left, right] = [right ^ this.mix(left, round), left];
      x = left * base + right;
    } while (x >= this.size);
    return x;
  }

  private mix(value: number, round: number): number {
    const counter3 = (STREAM.plan << 24) | this.part;
    philox4x32(this.words, value, this.index * 16 + round, this.epoch, counter3, this.k0, this.k1);
    return this.words[0]! & (this.base - 1);
  }
}
