/** Tensors of one layout as rows of another's: how weights change their names without changing a bit. */
import type { ExpectedTensor } from './tensors.js';

/** Rows (of the first dimension) of a tensor. */
export interface Piece {
  tensor: string;
  firstRow: number;
  rows: number;
}

/** A tensor of the wanted layout, as the pieces that follow each other in it. */
export interface Assembly extends ExpectedTensor {
  pieces: Piece[];
}

/** Every tensor as itself. */
export function identity(tensors: readonly ExpectedTensor[]): Assembly[] {
  return tensors.map(({ name, shape }) => ({
    name,
    shape,
    pieces: [{ tensor: name, firstRow: 0, rows: shape[0]! }],
  }));
}

/**
 * The other direction: `tensors` as pieces of the assemblies that are made of them.
 *
 * @param tensors what the assemblies' pieces refer to; every row of them occurs in exactly one piece.
 */
export function invert(assemblies: readonly Assembly[], tensors: readonly ExpectedTensor[]): Assembly[] {
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
