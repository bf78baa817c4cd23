/** Repetition levels: for each value, the depth of the list that goes on with it (Dremel, Melnik et al. 2010). */

/** The lengths of nested lists, outermost first, of one row's levels; null if lists of a depth differ. */
export function listShape(levels: Uint8Array, depth: number): number[] | null {
  const counts = new Array<number>(depth + 1).fill(0);
  for (const level of levels) {
    if (level > depth) return null;
    counts[level]! += 1;
  }
  const shape: number[] = [];
  // A list of depth k begins at every value whose level is below k.
  let lists = counts[0]!;
  if (lists !== 1) return null;
  for (let k = 1; k <= depth; k++) {
    const below = lists + counts[k]!;
    if (below % lists !== 0) return null;
    shape.push(below / lists);
    lists = below;
  }
  const expected = levelsOf(shape);
  return Buffer.compare(expected, levels) === 0 ? shape : null;
}

/** The repetition levels of a row of this shape. */
function levelsOf(shape: readonly number[]): Uint8Array {
  const width = shape.reduce((a, b) => a * b, 1);
  const levels = new Uint8Array(width).fill(shape.length);
  let step = 1;
  for (let k = shape.length - 1; k >= 0; k--) {
    step *= shape[k]!;
    for (let i = 0; i < width; i += step) levels[i] = k;
  }
  return levels;
}
