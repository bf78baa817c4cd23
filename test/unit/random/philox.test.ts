import { describe, expect, test } from 'vitest';
import {
  type DrawKey,
  drawUniforms,
  drawWords,
  normalPair,
  philox4x32,
  STREAM,
} from '../../../src/random/philox.js';

/**
 * Known answers of Random123's distribution (kat_vectors), philox4x32 with 10 rounds: counter, key, result.
 */
const KNOWN_ANSWERS: [number[], number[], number[]][] = [
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
];

/** The same cipher with big integers, as the paper writes it. */
function reference(counter: number[], key: number[]): number[] {
  let [c0, c1, c2, c3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  const low = (x: bigint) => x & 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, low(p1), (p0 >> 32n) ^ c3 ^ k1, low(p0)];
    k0 = low(k0 + 0x9e3779b9n);
    k1 = low(k1 + 0xbb67ae85n);
  }
  return [c0, c1, c2, c3].map(Number);
}

const key: DrawKey = { seed: 0x0123456789abcdefn, stream: STREAM.time, step: 77, sampleId: 2 ** 40 + 5 };

describe('philox4x32', () => {
  test.each(KNOWN_ANSWERS)('gives the known answer for counter %j', (counter, k, result) => {
    const out = new Uint32Array(4);
    philox4x32(out, counter[0]!, counter[1]!, counter[2]!, counter[3]!, k[0]!, k[1]!);
    expect([...out]).toEqual(result);
  });

  test('agrees with big integers on counters with every byte in play', () => {
    const out = new Uint32Array(4);
    let state = [1, 2, 3, 4];
    let k = [5, 6];
    for (let i = 0; i < 500; i++) {
      philox4x32(out, state[0]!, state[1]!, state[2]!, state[3]!, k[0]!, k[1]!);
      expect([...out]).toEqual(reference(state, k));
      k = [state[1]!, out[2]!];
      state = [...out];
    }
  });
});

describe('drawWords', () => {
  test('lays key and counter out as kernels.h says', () => {
    expect([...drawWords(key, 9)]).toEqual(
      reference([9, 5, 77, ((STREAM.time << 24) | (2 ** 8)) >>> 0], [0x89abcdef, 0x01234567]),
    );
  });

  test('changes with each part of the key, and with nothing else', () => {
    const base = [...drawWords(key, 0)];
    expect([...drawWords({ ...key }, 0)]).toEqual(base);
    const others = [
      drawWords({ ...key, seed: key.seed + 1n }, 0),
      drawWords({ ...key, seed: key.seed + (1n << 32n) }, 0),
      drawWords({ ...key, stream: STREAM.drop }, 0),
      drawWords({ ...key, step: 78 }, 0),
      drawWords({ ...key, sampleId: key.sampleId + 1 }, 0),
      drawWords({ ...key, sampleId: key.sampleId + 2 ** 32 }, 0),
      drawWords(key, 1),
    ];
    for (const other of others) expect([...other]).not.toEqual(base);
  });

  test('gives every stream a number of its own', () => {
    const numbers = Object.values(STREAM);
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(Math.max(...numbers)).toBeLessThan(256);
    // These are drawn natively (native/core/philox.h).
    expect([STREAM.noise, STREAM.init]).toEqual([0, 4]);
  });
});

describe('normalPair', () => {
  test('has the moments of a standard normal, and no correlation', () => {
    const n = 50_000;
    let sum = 0;
    let square = 0;
    let fourth = 0;
    let product = 0;
    for (let i = 0; i < n; i++) {
      const [u1, u2] = drawUniforms({ ...key, sampleId: i });
      const [a, b] = normalPair(u1!, u2!);
      sum += a;
      square += a * a;
      fourth += a ** 4;
      product += a * b;
    }
    // Bounds are four standard errors.
    expect(Math.abs(sum / n)).toBeLessThan(4 / Math.sqrt(n));
    expect(Math.abs(square / n - 1)).toBeLessThan((4 * Math.SQRT2) / Math.sqrt(n));
    expect(Math.abs(fourth / n - 3)).toBeLessThan((4 * Math.sqrt(96)) / Math.sqrt(n));
    expect(Math.abs(product / n)).toBeLessThan(4 / Math.sqrt(n));
  });
});
