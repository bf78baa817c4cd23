/** Files beyond 4 GiB, made of holes. */
import { closeSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { numericColumn } from '../../../src/formats/arrow/columns.js';
import { readArrow } from '../../../src/formats/arrow/file.js';
import { native } from '../../../src/native/load.js';
import { arrowBytes, columnSpec, numericData, specOf } from '../../support/arrow-files.js';
import { temporaryFolder } from '../../support/folders.js';

const WIDTH = 4096;
const FEW = 1009;
const MANY = 300_000;
const GIB = 2 ** 30;

/** The metadata of a stream of one batch of FEW rows, with every length changed to that of MANY rows. */
function hugeHeader(): { header: Buffer; bodyBytes: number } {
  const latent = numericData(
    { element: 'float32', levels: [{ kind: 'fixed', size: WIDTH }], skipped: 0 },
    FEW,
  );
  const bytes = Buffer.from(arrowBytes([{ latent }], { format: 'stream' }));
  const body = bytes.length - 8 - FEW * WIDTH * 4;
  const header = bytes.subarray(0, body);
  let changed = 0;
  for (let at = 0; at + 8 <= body; at += 4) {
    const value = header.readBigInt64LE(at);
    for (const unit of [1, WIDTH, WIDTH * 4]) {
      if (value !== BigInt(FEW * unit)) continue;
      header.writeBigInt64LE(BigInt(MANY * unit), at);
      changed += 1;
    }
  }
  // Rows of the batch, lengths of two nodes, of the values and of the body.
  expect(changed).toBe(5);
  return { header, bodyBytes: MANY * WIDTH * 4 };
}

test('reads rows beyond 4 GiB', async () => {
  const path = join(temporaryFolder(), 'huge.arrow');
  const { header, bodyBytes } = hugeHeader();
  const fd = openSync(path, 'w');
  try {
    ftruncateSync(fd, header.length + bodyBytes + 8);
    writeSync(fd, header, 0, header.length, 0);
    for (const row of [0, 270_000, MANY - 1]) {
      const values = new Float32Array(WIDTH).fill(row + 0.5);
      writeSync(fd, values, 0, values.byteLength, header.length + row * WIDTH * 4);
    }
    writeSync(fd, Buffer.from([255, 255, 255, 255, 0, 0, 0, 0]), 0, 8, header.length + bodyBytes);
    const file = readArrow(path);
    expect(file.bytes).toBeGreaterThan(4.5 * GIB);
    expect(file.rows).toBe(MANY);
    const column = numericColumn(file, 'latent');
    const spec = columnSpec('latent', WIDTH, column);
    const dataset = await native().mapDataset(specOf(path, file.bytes, MANY, [spec]));
    for (const row of [0, 270_000, MANY - 1]) {
      expect(new Set(dataset.row('latent', row))).toEqual(new Set([row + 0.5]));
    }
    expect(new Set(dataset.row('latent', MANY - 2))).toEqual(new Set([0]));
    dataset.close();
  } finally {
    closeSync(fd);
    rmSync(path);
  }
});
