/**
 * A data set of one file of float16 numbers in the layout of a record batch, for the engine to gather from.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import type { ColumnSpec, DatasetSpec } from '../src/native/contract.js';
import type { BenchShape } from './shapes.js';

/** Rows of two batches, as in PyTorch's data. */
export const rowsOf = (shape: BenchShape) => 2 * shape.globalBatch;

export function writeSyntheticData(path: string, shape: BenchShape): DatasetSpec {
  const { text } = shape;
  const rows = rowsOf(shape);
  const widths: [string, number][] = [
    ['latent', shape.model.latentChannels * shape.latentHeight * shape.latentWidth],
    ['original.clip_l', text.clipTokens * text.clipLDim],
    ['original.clip_l_pooled', text.clipLPooledDim],
    ['original.clip_g', text.clipTokens * text.clipGDim],
    ['original.clip_g_pooled', text.clipGPooledDim],
    ['original.t5', text.t5Tokens * text.t5Dim],
  ];
  const file = openSync(path, 'w');
  const columns: ColumnSpec[] = [];
  let bytes = 0;
  let state = 1;
  for (const [role, width] of widths) {
    const values = new Uint16Array(rows * width);
    for (let i = 0; i < values.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      // A sign, an exponent from 2^-4 to 2^-1 and ten random bits: float16 magnitudes between 1/16 and 1.
      values[i] = ((state >>> 31) << 15) | ((11 + ((state >>> 20) & 3)) << 10) | ((state >>> 8) & 0x3ff);
    }
    writeSync(file, new Uint8Array(values.buffer));
    columns.push({
      role,
      type: 'float16',
      width,
      rowBytes: 2 * width,
      segments: Float64Array.of(0, 0, rows, bytes),
    });
    bytes += values.byteLength;
  }
  closeSync(file);
  return { files: [{ path, bytes }], storedRows: rows, order: null, columns, latentShift: 0, latentScale: 1 };
}
