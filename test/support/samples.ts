/** Rows of random numbers for an engine of the SMALL model. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ColumnSpec } from '../../src/native/contract.js';
import { native } from '../../src/native/load.js';
import { specOf } from './arrow-files.js';
import { SMALL } from './engines.js';
import { temporaryFolder } from './folders.js';
import { generator } from './random.js';

/** Four rows of random numbers, and a slot of the first two. */
export async function samples() {
  const {
    data: values,
    columns,
    bytes,
  } = columnsOf({
    latent: 4 * 64,
    'original.clip_l': 8 * 8,
    'original.clip_l_pooled': 4,
    'original.clip_g': 8 * 16,
    'original.clip_g_pooled': SMALL.pooledDim - 4,
    'original.t5': 8 * SMALL.contextDim,
  });
  const path = join(await temporaryFolder(), 'data.bin');
  writeFileSync(path, values);
  const data = await native().mapDataset(specOf(path, bytes, 4, columns));
  const text = {
    clipTokens: 8,
    t5Tokens: 8,
    clipLDim: 8,
    clipGDim: 16,
    t5Dim: SMALL.contextDim,
    clipLPooledDim: 4,
    clipGPooledDim: SMALL.pooledDim - 4,
  };
  const slot = {
    slot: 0,
    rows: Float64Array.of(0, 1),
    synthetic: new Uint8Array(2),
    dropped: new Uint8Array(2),
    coefficients: Float32Array.of(0.6, 0.4, -1, 1, 1, 400, 0.5, 0.5, -1, 1, 1, 500),
    sampleIds: Float64Array.of(0, 1),
  };
  return { data, text, slot };
}

function columnsOf(widths: Record<string, number>) {
  const random = generator(4);
  const values: number[] = [];
  const columns = Object.entries(widths).map(([role, width]): ColumnSpec => {
    const segments = Float64Array.of(0, 0, 4, 4 * values.length);
    for (let i = 0; i < 4 * width; i++) values.push(random() - 0.5);
    return { role, type: 'float32', width, rowBytes: 4 * width, segments };
  });
  const data = Float32Array.from(values);
  return { data, columns, bytes: data.byteLength };
}

/** A step without slots. */
export const nothingToDo = {
  slots: [],
  totalSlots: 1,
  gradScale: 1,
  seed: 0n,
  step: 1,
  statistics: false,
  next: null,
  onBucket: () => {},
};
