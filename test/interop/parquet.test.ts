/** Parquet files of pyarrow, converted to shards (test/fixtures/parquet/make.py). */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { datasetSpec, joinColumn } from '../../src/data/column.js';
import { convertParquet } from '../../src/data/convert.js';
import { openSource } from '../../src/data/formats.js';
import { verifyFiles } from '../../src/data/verify.js';
import { ERRORS } from '../../src/errors.js';
import type { Reading } from '../../src/formats/arrow/columns.js';
import { native } from '../../src/native/load.js';
import { drawWords, STREAM } from '../../src/random/philox.js';
import { temporaryFolder } from '../support/folders.js';
import { orchestrator } from '../support/program.js';

const FILES = fileURLToPath(new URL('../fixtures/parquet/', import.meta.url));
const ROWS = 9;
const SIZE = 48;
const valuesOf = (row: number) => Array.from({ length: SIZE }, (_, i) => ((31 * row + 7 * i) % 200) / 8 - 12);
const convert = (name: string, out: string, leaveOut: string[] = []) =>
  convertParquet({ source: join(FILES, name), out, leaveOut, progress: null });
const newFolder = () => join(temporaryFolder(), 'converted');

describe.each(['snappy', 'plain-small-pages', 'v2-zstd', 'gzip-split', 'lz4', 'brotli-dictionary'])(
  '%s',
  (name) => {
    test('has the values that pyarrow reads', async () => {
      const out = newFolder();
      const { others } = await convert(`${name}.parquet`, out);
      expect(others).toEqual([{ name: 'sample.words', type: 'STRING' }]);
      const source = openSource(out);
      expect(source.rows).toBe(ROWS);
      expect(await verifyFiles(source, null)).toBe(true);
      const bfloat16: Reading = { bfloat16: true };
      const columns = (
        [
          ['latent', {}, 'float16', [4, 2, 6]],
          ['flat', {}, 'float32', [48]],
          ['double', {}, 'float64', [4, 2, 6]],
          ['bits', bfloat16, 'bfloat16', [4, 2, 6]],
          ['npy', {}, 'float16', [4, 2, 6]],
          ['sample.latent', {}, 'float32', [48]],
        ] as const
      ).map(([column, reading, type, shape]) => {
        const joined = joinColumn(source, column, column, null, reading);
        expect(joined.spec.type).toBe(type);
        expect(joined.shapes[0]).toEqual(shape);
        return joined;
      });
      for (const { spec } of columns) spec.width = SIZE;
      const dataset = await native().mapDataset(datasetSpec(source, columns));
      for (const { spec } of columns) {
        for (let row = 0; row < ROWS; row++) {
          expect([...dataset.row(spec.role, row)], `${spec.role}, row ${row}`).toEqual(valuesOf(row));
        }
      }
      dataset.close();
      const labels = (column: string) => Array.from({ length: ROWS }, (_, row) => source.label(column, row));
      expect(labels('caption')).toEqual(
        Array.from({ length: ROWS }, (_, row) => (row === 4 ? '' : `caption ${row % 3}`)),
      );
      expect(labels('small')).toEqual(Array.from({ length: ROWS }, (_, row) => `${-row}`));
      expect(labels('id')[8]).toBe('1000000000008');
    });
  },
);

test.each([
  ['ragged', /column "ragged": 28 values in 9 rows: the lists have several lengths/],
  ['ragged-on-average', /column "ragged": row 4 of a row group has another shape/],
  ['null', /column "null": a value is null/],
])('%s is refused, and may be left out', async (name, message) => {
  const column = name.split('-')[0]!;
  await expect(convert(`${name}.parquet`, newFolder())).rejects.toEqual(
    expect.objectContaining({
      message: expect.stringMatching(message),
      hint: expect.stringContaining(`--leave-out ${column}`),
    }),
  );
  if (name !== 'ragged') return;
  const { manifest } = await convert('ragged.parquet', newFolder(), [column]);
  expect(manifest.columns.map((kept) => kept.name)).toEqual(['latent']);
});

describe('an interrupted conversion', () => {
  const stopAfter = (rows: number) => (done: number) => {
    if (done >= rows) throw new Error('interrupted');
  };

  test('goes on where it was, and ends as if it had not been interrupted', async () => {
    const [out, whole] = [newFolder(), newFolder()];
    const source = join(FILES, 'brotli-dictionary.parquet');
    const first = { source, out, leaveOut: [], progress: stopAfter(6) };
    await expect(convertParquet(first)).rejects.toThrow('interrupted');
    expect(existsSync(out)).toBe(false);
    const work = join(out, '..', '.converted.converting');
    const written = statSync(join(work, 'shard-00001.arrow')).ino;
    const rows: number[] = [];
    const { manifest } = await convertParquet({ ...first, progress: (done) => rows.push(done) });
    expect(rows).toEqual([9]);
    expect(statSync(join(out, 'shard-00001.arrow')).ino).toBe(written);
    expect(readdirSync(join(out, '..'))).toEqual(['converted']);
    expect(readdirSync(out).sort()).toEqual([
      'manifest.json',
      ...[0, 1, 2].map((i) => `shard-0000${i}.arrow`),
    ]);
    expect(manifest.shards).toEqual((await convert('brotli-dictionary.parquet', whole)).manifest.shards);
  });

  test('starts anew where the files are others', async () => {
    const out = newFolder();
    const source = join(FILES, 'brotli-dictionary.parquet');
    const broken = convertParquet({ source, out, leaveOut: [], progress: stopAfter(6) });
    await expect(broken).rejects.toThrow('interrupted');
    const { manifest } = await convert('snappy.parquet', out);
    expect(manifest.rows).toBe(ROWS);
    expect(readdirSync(out).sort()).toEqual(['manifest.json', 'shard-00000.arrow']);
  });
});

test('several files of one folder follow each other, and are converted by the command', () => {
  const dir = join(temporaryFolder(), 'files');
  mkdirSync(dir);
  for (const [i, name] of ['snappy', 'lz4'].entries())
    cpSync(join(FILES, `${name}.parquet`), join(dir, `${i}.parquet`));
  const hint = orchestrator('dataset', 'inspect', dir).stderr;
  expect(hint).toContain(`converted once: orchestrator dataset convert ${dir} --out ${dir}-shards`);
  const done = orchestrator('dataset', 'convert', dir, '--out', `${dir}-shards`);
  expect(done).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/18 rows in 2 files(.|\n)*latent +float16 4 x 2 x 6/),
  });
  expect(done.stderr).toContain('warn column "sample.words" (STRING) was not kept');
  expect(orchestrator('dataset', 'verify', `${dir}-shards`).stdout).toContain('18 rows in 2 files');
  expect(orchestrator('dataset', 'convert', dir, '--out', `${dir}-shards`).stderr).toContain('is not empty');
});

test('damaged files lead to errors with codes', async () => {
  const whole = readFileSync(join(FILES, 'plain-small-pages.parquet'));
  const dir = temporaryFolder();
  const path = join(dir, 'x.parquet');
  const outcomes = new Set<string>();
  for (let mutant = 0; mutant < 150; mutant++) {
    const words = drawWords({ seed: 3n, stream: STREAM.dataset, step: 1, sampleId: mutant }, 0);
    const bytes = Buffer.from(whole);
    // Half of them in the footer.
    const at = mutant % 2 === 0 ? words[0]! % bytes.length : bytes.length - 1 - (words[0]! % 3000);
    bytes[at] = words[1]! % 256;
    writeFileSync(path, bytes);
    if (mutant % 10 === 0) truncateSync(path, words[2]! % bytes.length);
    const out = join(dir, `out-${mutant}`);
    const outcome = await convertParquet({ source: path, out, leaveOut: [], progress: null }).then(
      () => 'converted',
      (error) => error.code ?? error.stack,
    );
    expect(outcome === 'converted' || Object.hasOwn(ERRORS, outcome), `mutant ${mutant}: ${outcome}`).toBe(
      true,
    );
    expect(outcome).not.toBe('ERR_INTERNAL');
    outcomes.add(outcome);
  }
  expect(outcomes.size).toBeGreaterThan(2);
}, 120_000);
