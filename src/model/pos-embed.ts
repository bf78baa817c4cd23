/** The table of 2-D sine-cosine positions, as the reference code stores it. */
import type { ModelSpec } from '../native/contract.js';
import { hiddenOf } from './tensors.js';

/**
 * Positions of a P x P grid, computed in fp64 and rounded to fp32.
 *
 * The first half of the channels encodes the column, the second the row; in each, sines come before cosines, at the
 * frequencies 10000^(-j / (hidden / 4)), j = 0, 1, ...
 *
 * @returns [P * P * hidden], rows of the grid first.
 */
export function posEmbed(spec: Pick<ModelSpec, 'heads' | 'posEmbedMaxSize'>): Float32Array {
  const hidden = hiddenOf(spec);
  const size = spec.posEmbedMaxSize;
  const quarter = hidden / 4;
  // One coordinate's channels: [size, hidden / 2].
  const axis = new Float32Array(size * 2 * quarter);
  for (let position = 0; position < size; position++) {
    for (let j = 0; j < quarter; j++) {
      const angle = position * 10000 ** (-j / quarter);
      axis[position * 2 * quarter + j] = Math.sin(angle);
      axis[position * 2 * quarter + quarter + j] = Math.cos(angle);
    }
  }
  const coordinate = (position: number) =>
    axis.subarray(position * 2 * quarter, (position + 1) * 2 * quarter);
  const table = new Float32Array(size * size * hidden);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const at = (row * size + column) * hidden;
      table.set(coordinate(column), at);
      table.set(coordinate(row), at + hidden / 2);
    }
  }
  return table;
}
