/** The tensors of one layout as rows of another's, so that weights can be renamed without changing a bit. */
import type { NamedTensor } from './tensors.js';

/** A range of rows (of the first dimension) of a tensor. */
export interface Piece {
  tensor: string;
  firstRow: number;
  rows: number;
}

/** A tensor of the wanted layout, with the pieces that it consists of, in order. */
export interface Assembly extends NamedTensor {
  pieces: Piece[];
}

/**
 * Inverts assemblies: returns `tensors` as pieces of the assemblies that consist of them.
 *
 * @param tensors the tensors that the assemblies' pieces refer to; every row of them occurs in exactly one
 *   piece.
 */
export function invert(assemblies: readonly Assembly[], tensors: readonly NamedTensor[]): Assembly[] {
  const pieces = new Map<string, (Piece & { at: number })[]>();
  for (const { name, pieces: parts } of assemblies) {
    let firstRow = 0;
    for (const { tensor, firstRow: at, rows } of parts) {
      const list = pieces.get(tensor) ?? [];
      list.push({ tensor: name, firstRow, rows, at });
      pieces.set(tensor, list);
      firstRow += rows;
    }
  }
  return tensors.map(({ name, shape }) => ({
    name,
    shape,
    pieces: (pieces.get(name) ?? [])
      .sort((a, b) => a.at - b.at)
      .map(({ tensor, firstRow, rows }) => ({ tensor, firstRow, rows })),
  }));
}
