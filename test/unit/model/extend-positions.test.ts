import { describe, expect, test } from 'vitest';
import { convertFromFloat32, convertToFloat32 } from '../../../src/formats/safetensors/dtype.js';
import { extendPositions } from '../../../src/model/extend-positions.js';
import { posEmbed } from '../../support/pos-embed.js';
import { generator } from '../../support/random.js';

const HIDDEN = 128;

/** The position table at coordinates first + step p. */
function tableOf(size: number, first: number, step: number): Float32Array {
  const quarter = HIDDEN / 4;
  const table = new Float32Array(size * size * HIDDEN);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      for (let j = 0; j < quarter; j++) {
        const at = (row * size + column) * HIDDEN + j;
        const [x, y] = [column, row].map((p) => (first + step * p) * 10000 ** (-j / quarter)) as [
          number,
          number,
        ];
        table[at] = Math.sin(x);
        table[at + quarter] = Math.cos(x);
        table[at + 2 * quarter] = Math.sin(y);
        table[at + 3 * quarter] = Math.cos(y);
      }
    }
  }
  return table;
}

const worst = (a: Float32Array, b: Float32Array) =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

function centre(table: Float32Array, size: number, side: number): Float32Array {
  const at = Math.floor((size - side) / 2);
  const out = new Float32Array(side * side * HIDDEN);
  for (let row = 0; row < side; row++) {
    const from = ((at + row) * size + at) * HIDDEN;
    out.set(table.subarray(from, from + side * HIDDEN), row * side * HIDDEN);
  }
  return out;
}

describe('a grid of sines and cosines', () => {
  test.each([
    ['whole coordinates', 8, 12, 0, 1],
    ['coordinates of thirds', 16, 32, 0.25, 1 / 3],
    ['one that begins below zero', 192, 200, -64.125, 0.5],
    ['an odd difference', 8, 11, 0, 1],
  ])('goes on: %s', (_, from, to, first, step) => {
    const old = tableOf(from, first, step);
    const { table, how } = extendPositions(old, HIDDEN, from, to);
    expect(how).toBe('computed');
    const shift = Math.floor((to - from) / 2);
    expect(worst(table, tableOf(to, first - step * shift, step))).toBeLessThan(2e-4);
    // Where the difference is even, latents of any side see what they saw, bit by bit.
    for (const side of (to - from) % 2 === 0 ? [from, from - 1, 2] : []) {
      const [before, after] = [centre(old, from, side), centre(table, to, side)];
      expect(Buffer.from(after.buffer).equals(Buffer.from(before.buffer)), `side ${side}`).toBe(true);
    }
  });

  test.each(['F16', 'BF16'] as const)('is told from its rounding to %s', (dtype) => {
    const old = posEmbed({ heads: HIDDEN / 64, posEmbedMaxSize: 24 });
    const rounded = new Float32Array(old.length);
    const bytes = new Uint8Array(old.length * 2);
    convertFromFloat32(dtype, old, bytes);
    convertToFloat32(dtype, bytes, rounded);
    const { table, how } = extendPositions(rounded, HIDDEN, 24, 32);
    expect(how).toBe('computed');
    expect(worst(table, tableOf(32, -4, 1))).toBeLessThan(dtype === 'F16' ? 1e-3 : 5e-3);
  });
});

describe('a table that is no function of coordinates', () => {
  test('is stretched', () => {
    const random = generator(3);
    const old = Float32Array.from({ length: 4 * 4 * HIDDEN }, () => random());
    const { table, how } = extendPositions(old, HIDDEN, 4, 8);
    expect(how).toBe('interpolated');
    // Corners stay; everything lies between what was there.
    expect([...table.subarray(0, HIDDEN)]).toEqual([...old.subarray(0, HIDDEN)]);
    expect([...table.subarray(-HIDDEN)]).toEqual([...old.subarray(-HIDDEN)]);
    expect(Math.max(...table)).toBeLessThanOrEqual(Math.max(...old));
    const flat = extendPositions(new Float32Array(2 * 2 * HIDDEN).fill(0.7), HIDDEN, 2, 5);
    expect(worst(flat.table, new Float32Array(5 * 5 * HIDDEN).fill(0.7))).toBeLessThan(1e-7);
  });
});
