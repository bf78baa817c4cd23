/** The position table that an engine starts with, for comparison. */
import { positionGrid } from '../../src/model/extend-positions.js';
import type { ModelSpec } from '../../src/native/contract.js';
import { elementary } from '../../src/native/elementary.js';
import { hiddenOf } from '../../src/native/specs.js';

/**
 * Positions of a P x P grid, computed in fp64 and rounded to fp32.
 *
 * The first half of the channels encodes the column, the second the row; in each, sines come before cosines,
 * at the frequencies 10000^(-j / (hidden / 4)), j = 0, 1, ...
 *
 * @returns [P * P * hidden], in the order of the grid's rows.
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
