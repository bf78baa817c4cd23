import { describe, expect, test } from 'vitest';
import { assignSlots } from '../../../src/step/assignment.js';
import { localSubtrees, type Part, sumTree } from '../../../src/step/tree.js';

/** Values whose sum depends on the order of additions. */
function slotGradient(slot: number): Float32Array {
  return Float32Array.from({ length: 8 }, (_, i) =>
    Math.fround(Math.sin(slot * 7.3 + i) * 10 ** ((slot * 5 + i) % 7)),
  );
}

function add(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => Math.fround(value + (b[i] as number)));
}

function leaves(lo: number, hi: number): Part<Float32Array>[] {
  return Array.from({ length: hi - lo }, (_, i) => ({
    lo: lo + i,
    hi: lo + i + 1,
    data: slotGradient(lo + i),
  }));
}

/** The sum of one node, from its slots, by the definition. */
function nodeSum(lo: number, hi: number): Float32Array {
  if (hi - lo === 1) return slotGradient(lo);
  let half = 1;
  while (half * 2 < hi - lo) half *= 2;
  return add(nodeSum(lo, lo + half), nodeSum(lo + half, hi));
}

const bits = (x: Float32Array) => Buffer.from(x.buffer, x.byteOffset, x.byteLength).toString('hex');

describe('summation tree', () => {
  const workers = [1, 2, 3, 4, 5, 6, 7, 8, 16];

  test.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 31, 32, 33, 64])(
    '%i slots: same bits for any workers',
    (slots) => {
      const reference = bits(sumTree(leaves(0, slots), slots, add));
      for (const ranks of workers) {
        if (ranks > slots) continue;
        const parts = assignSlots(slots, ranks).flatMap(({ lo, hi }) =>
          localSubtrees(lo, hi, slots).map((node) => ({ ...node, data: nodeSum(node.lo, node.hi) })),
        );
        expect(bits(sumTree(parts, slots, add)), `${ranks} workers`).toBe(reference);
      }
    },
  );

  test('the data would tell another order', () => {
    const sequential = leaves(0, 13)
      .map((leaf) => leaf.data)
      .reduce(add);
    expect(bits(sequential)).not.toBe(bits(sumTree(leaves(0, 13), 13, add)));
  });

  test('slots are contiguous, complete and even', () => {
    for (const slots of [1, 5, 8, 13]) {
      for (const ranks of workers) {
        const ranges = assignSlots(slots, ranks);
        expect(ranges[0]?.lo).toBe(0);
        expect(ranges.at(-1)?.hi).toBe(slots);
        for (const [rank, range] of ranges.entries()) {
          if (rank > 0) expect(range.lo).toBe(ranges[rank - 1]?.hi);
          expect(Math.abs(range.hi - range.lo - slots / ranks)).toBeLessThan(1);
        }
      }
    }
  });

  test('subtrees are maximal', () => {
    expect(localSubtrees(0, 8, 8)).toEqual([{ lo: 0, hi: 8 }]);
    expect(localSubtrees(0, 5, 5)).toEqual([{ lo: 0, hi: 5 }]);
    expect(localSubtrees(1, 7, 8)).toEqual([
      { lo: 1, hi: 2 },
      { lo: 2, hi: 4 },
      { lo: 4, hi: 6 },
      { lo: 6, hi: 7 },
    ]);
    expect(localSubtrees(4, 5, 5)).toEqual([{ lo: 4, hi: 5 }]);
    expect(localSubtrees(3, 3, 8)).toEqual([]);
  });

  test('missing, doubled and foreign parts are refused', () => {
    const [a, b, c, d] = leaves(0, 4) as [
      Part<Float32Array>,
      Part<Float32Array>,
      Part<Float32Array>,
      Part<Float32Array>,
    ];
    expect(() => sumTree([a, b, d], 4, add)).toThrow('no part holds slot 2 of 4');
    expect(() => sumTree([a, a, b, c, d], 4, add)).toThrow('same slot');
    expect(() => sumTree([a, { ...b, hi: 3 }, d], 4, add)).toThrow('no part holds slot 1 of 4');
    expect(() => sumTree([{ ...a, hi: 4 }, b], 4, add)).toThrow('overlap');
  });
});
