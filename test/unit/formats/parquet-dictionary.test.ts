/** Indices into the dictionary of a Parquet column. */
import { describe, expect, test } from 'vitest';
import { dictionaryIndices, GATHER } from '../../../src/formats/parquet/dictionary.js';
import { generator } from '../../support/random.js';

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
}

/** A run of one value. */
function run(value: number, count: number, width: number): number[] {
  const bytes = Array.from({ length: Math.ceil(width / 8) }, (_, i) => (value >>> (8 * i)) & 255);
  return [...varint(count * 2), ...bytes];
}

/** Groups of eight values, packed; the last one is filled up with zeros. */
function packed(values: readonly number[], width: number): number[] {
  const groups = Math.ceil(values.length / 8);
  const out = new Uint8Array(groups * width);
  values.forEach((value, i) => {
    for (let bit = 0; bit < width; bit++) {
      const at = i * width + bit;
      if (Math.floor(value / 2 ** bit) % 2 === 1) out[at >> 3]! |= 1 << (at & 7);
    }
  });
  return [...varint(groups * 2 + 1), ...out];
}

describe('indices', () => {
  test.each([1, 2, 3, 7, 8, 9, 15, 16, 17, 23, 24])('of %i bits, in runs and in groups', (width) => {
    const random = generator(width);
    const below = (n: number) => Math.floor(random() * n);
    const some = (count: number) => Array.from({ length: count }, () => below(2 ** width));
    const [first, last] = [some(40), some(13)];
    const same = below(2 ** width);
    const page = [width, ...packed(first, width), ...run(same, 5, width), ...packed(last, width)];
    const expected = [...first, ...Array.from({ length: 5 }, () => same), ...last];
    expect([...dictionaryIndices(Uint8Array.from(page), expected.length, 2 ** width)]).toEqual(expected);
  });

  test('of no bits are all 0', () => {
    expect([...dictionaryIndices(Uint8Array.of(0), 3, 1)]).toEqual([0, 0, 0]);
  });

  test('outside of the dictionary or the page are refused', () => {
    const page = Uint8Array.from([4, ...packed([1, 2, 9], 4)]);
    expect(() => dictionaryIndices(page, 3, 9)).toThrow('outside of the dictionary');
    expect(() => dictionaryIndices(page.subarray(0, 3), 6, 10)).toThrow('beyond their page');
    expect(() => dictionaryIndices(Uint8Array.from([9, 2]), 1, 10)).toThrow('beyond their page');
    expect(() => dictionaryIndices(Uint8Array.from([4, 0, 0, 0]), 1, 10)).toThrow('beyond their page');
    expect(() => dictionaryIndices(Uint8Array.of(4), 1, 10)).toThrow();
    expect(() => dictionaryIndices(Uint8Array.of(25), 1, 10)).toThrow('indices of 25 bits are not read');
  });
});

test.each([2, 4, 8] as const)('values of %i bytes are copied bit by bit', (size) => {
  const dictionary = Uint8Array.from({ length: 3 * size }, (_, i) => 255 - 7 * i);
  const copied = GATHER[size](dictionary.buffer, Uint32Array.of(2, 0, 2));
  const value = (i: number) => [...dictionary.subarray(i * size, (i + 1) * size)];
  expect([...copied]).toEqual([...value(2), ...value(0), ...value(2)]);
});
