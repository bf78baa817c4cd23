/** The table of 2-D sine-cosine positions, as the reference code stores it. */
import type { ModelSpec } from '../native/contract.js';
import { elementary } from '../native/elementary.js';
import { hiddenOf } from './tensors.js';

/**
 * Positions of a P x P grid, computed in fp64 and rounded to fp32: what an engine starts with.
 *
 * The first half of the channels encodes the column, the second the row; in each, sines come before cosines, at the
 * frequencies 10000^(-j / (hidden / 4)), j = 0, 1, ...
 *
 * @returns [P * P * hidden], rows of the grid first.
 */
export function posEmbed(spec: Pick<ModelSpec, 'heads' | 'posEmbedMaxSize'>): Float32Array {
  const hidden = hiddenOf(spec);
  const size = spec.posEmbedMaxSize;
  const axis = elementary().encodePositions(
    Float64Array.from({ length: size }, (_, p) => p),
    hidden / 4,
  );
  return positionGrid(axis, axis, size, hidden);
}

/**
 * The grid of a code for every column and row: each [size, hidden / 2].
 *
 * @returns [size * size * hidden], rows of the grid first.
 */
export function positionGrid(
  columns: Float32Array,
  rows: Float32Array,
  size: number,
  hidden: number,
): Float32Array {
  const half = hidden / 2;
  const table = new Float32Array(size * size * hidden);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const at = (row * size + column) * hidden;
      table.set(columns.subarray(column * half, (column + 1) * half), at);
      table.set(rows.subarray(row * half, (row + 1) * half), at + half);
    }
  }
  return table;
}
