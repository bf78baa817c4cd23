/**
 * The fixed balanced binary tree over the V slots of a step, along which gradients are summed. A node covers
 * [lo, lo + 2^k) with lo a multiple of 2^k, clipped to V; its sum is that of its left half plus that of its
 * right half, or only the left half's if the right one is beyond V. Floating-point addition is commutative
 * but not associative: fixing the tree fixes the bits, regardless of who computes which node.
 */

/** The slots [lo, hi). */
export interface Range {
  lo: number;
  hi: number;
}

/** Smallest power of two that is at least n. */
function powerOfTwo(n: number): number {
  let p = 1;
  while (p < n) p *= 2;
  return p;
}

/**
 * The maximal aligned subtrees within [lo, hi), ascending: what a worker with these slots can sum by itself.
 */
export function localSubtrees(lo: number, hi: number, totalSlots: number): Range[] {
  const nodes: Range[] = [];
  visit(0, powerOfTwo(totalSlots));
  return nodes;

  function visit(from: number, size: number): void {
    const to = Math.min(from + size, totalSlots);
    if (from >= hi || to <= lo || from >= totalSlots) return;
    if (from >= lo && to <= hi) {
      nodes.push({ lo: from, hi: to });
      return;
    }
    visit(from, size / 2);
    visit(from + size / 2, size / 2);
  }
}

/** The sum of a node of the tree, and where its data is. */
export interface Part<T> extends Range {
  data: T;
}

/**
 * Sums parts that cover [0, totalSlots) exactly, along the tree. `add(a, b)` returns a + b and may overwrite
 * either. Throws a RangeError if the parts are not nodes of the tree or omit slots.
 */
export function sumTree<T>(parts: readonly Part<T>[], totalSlots: number, add: (a: T, b: T) => T): T {
  const byLow = new Map(parts.map((part) => [part.lo, part]));
  if (byLow.size !== parts.length) throw new RangeError('two parts start at the same slot');
  let used = 0;
  const sum = visit(0, powerOfTwo(totalSlots));
  if (used !== parts.length) throw new RangeError(`${parts.length - used} parts overlap others`);
  return sum;

  function visit(lo: number, size: number): T {
    const hi = Math.min(lo + size, totalSlots);
    const part = byLow.get(lo);
    if (part !== undefined && part.hi === hi) {
      used++;
      return part.data;
    }
    if (size === 1) throw new RangeError(`no part holds slot ${lo} of ${totalSlots}`);
    const half = size / 2;
    const left = visit(lo, half);
    return lo + half < totalSlots ? add(left, visit(lo + half, half)) : left;
  }
}
