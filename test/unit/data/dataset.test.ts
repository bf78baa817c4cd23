/** What users can get wrong about a data set, and what they are told. */
import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkColumns } from '../../../src/data/check.js';
import { joinColumn } from '../../../src/data/column.js';
import { type DataConfig, openDataset } from '../../../src/data/dataset.js';
import { scalingWarning } from '../../../src/data/fit.js';
import { openSource } from '../../../src/data/formats.js';
import { inspectDataset } from '../../../src/data/inspect.js';
import { verifyFiles } from '../../../src/data/verify.js';
import { type Row, type ShardSchema, writeShards } from '../../../src/data/writer.js';
import { native } from '../../../src/native/load.js';
import { firstSegment, SamplePlan } from '../../../src/step/plan.js';
import {
  arrowBytes,
  copyFixture,
  FIXTURES,
  fixtureConfig,
  huggingFaceFolder,
  numericData,
  stringData,
} from '../../support/arrow-files.js';
import { temporaryFolder } from '../../support/folders.js';

const failure = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) });

const FILE_1 = 'data-00001-of-00002.arrow';

describe('a Hugging Face folder', () => {
  const fixed = (change: Partial<DataConfig> = {}) =>
    openDataset({ ...fixtureConfig(join(FIXTURES, 'fixed'), true), ...change });
  const nested = (change: Partial<DataConfig> = {}) =>
    openDataset({ ...fixtureConfig(join(FIXTURES, 'nested'), false), ...change });
  const columns = fixtureConfig('', true).columns!;

  test('needs columns for the roles', async () => {
    await expect(fixed({ columns: null })).rejects.toEqual(
      expect.objectContaining({
        code: 'ERR_DATA_COLUMN',
        message: expect.stringContaining('data.columns must give the role of each column'),
        hint: expect.stringContaining('clip_g_pooled'),
      }),
    );
  });

  test('names a missing column, and those that there are', async () => {
    await expect(fixed({ columns: { ...columns, latent: 'latents' } })).rejects.toEqual(
      failure(
        'ERR_DATA_COLUMN',
        /fixed\/data-00000-of-00002\.arrow has no column "latents"; it has "id", "caption", "latent"/,
      ),
    );
    const synthetic = { ...columns.original, t5: 't5_long' };
    await expect(fixed({ columns: { ...columns, synthetic } })).rejects.toEqual(
      failure('ERR_DATA_COLUMN', /"t5_long"/),
    );
  });

  test('names a column of another type', async () => {
    await expect(fixed({ columns: { ...columns, latent: 'caption' } })).rejects.toEqual(
      failure(
        'ERR_DATA_TYPE',
        /arrow, column "caption": expected lists of float16, float32 or float64, received utf8/,
      ),
    );
  });

  test('names a column of another shape than the configuration or the other columns have', async () => {
    await expect(fixed({ latent_shape: [16, 8, 9] })).rejects.toEqual(
      failure('ERR_DATA_SHAPE', /arrow, column "latent", row 0: expected 16 x 8 x 9 elements, received 1024/),
    );
    await expect(nested({ latent_shape: [8, 16, 8] })).rejects.toEqual(
      failure('ERR_DATA_SHAPE', /column "latent", row 0: expected 8 x 16 x 8 elements, received 16 x 8 x 8/),
    );
    await expect(fixed({ latent_shape: null })).rejects.toEqual(
      expect.objectContaining({ code: 'ERR_DATA_SHAPE', hint: expect.stringContaining('data.latent_shape') }),
    );
    const missing = await fixed({ latent_shape: null, text_shape: null }).catch((error) => error);
    const hintOf = (key: string) => `Flat lists have no shape: set data.${key} in the configuration`;
    expect([missing, ...missing.also].map(({ hint }) => hint)).toEqual([
      ...[hintOf('latent_shape'), hintOf('text_shape')],
      ...[null, null],
    ]);
    expect(missing.also.map(({ message }: Error) => message)).toEqual([
      expect.stringContaining(
        '"clip_l" (original.clip_l), row 0: expected a shape of 2 dimensions, received 384',
      ),
      expect.stringContaining('"clip_g" (original.clip_g)'),
      expect.stringContaining('"t5" (original.t5)'),
    ]);
    await expect(fixed({ text_shape: { clip_l: [4, 96], clip_g: [8, 80], t5: [8, 160] } })).rejects.toEqual(
      failure('ERR_DATA_SHAPE', /CLIP-L has 4 tokens and CLIP-G 8/),
    );
    await expect(fixed({ text_shape: { clip_l: [8, 48], clip_g: [8, 80], t5: [16, 80] } })).rejects.toEqual(
      failure('ERR_DATA_SHAPE', /48 \+ 80 channels wide, more than T5's 80/),
    );
    const original = { ...columns.original, clip_l_pooled: 'clip_l' };
    await expect(nested({ columns: { ...columns, original } })).rejects.toEqual(
      failure(
        'ERR_DATA_SHAPE',
        /column "clip_l" \(original\.clip_l_pooled\), row 0: expected a shape of 1 dimension/,
      ),
    );
  });

  test('names a truncated or missing file', async () => {
    const dir = copyFixture('fixed');
    truncateSync(join(dir, FILE_1), 100_000);
    await expect(fixed({ path: dir })).rejects.toEqual(
      failure('ERR_FILE_TRUNCATED', /data-00001-of-00002\.arrow is truncated/),
    );
    rmSync(join(dir, FILE_1));
    await expect(fixed({ path: dir })).rejects.toEqual(
      failure('ERR_FILE_OPEN', /data-00001-of-00002\.arrow/),
    );
    await expect(fixed({ path: join(dir, 'nowhere') })).rejects.toEqual(
      failure('ERR_FILE_OPEN', /no data set at .*nowhere/),
    );
    await expect(fixed({ path: temporaryFolder() })).rejects.toEqual(
      failure('ERR_DATA_FORMAT', /neither manifest\.json nor state\.json/),
    );
  });

  test('names what is wrong in its JSON files', async () => {
    const dir = copyFixture('fixed');
    writeFileSync(join(dir, 'state.json'), '{"_data_files": [{"filename": "../../../etc/passwd"}]}');
    await expect(fixed({ path: dir })).rejects.toEqual(
      failure(
        'ERR_DATA_FORMAT',
        /state\.json is malformed: _data_files\.0\.filename: expected a file name inside/,
      ),
    );
    writeFileSync(join(dir, 'state.json'), '{"_data_files": ');
    await expect(fixed({ path: dir })).rejects.toEqual(
      failure('ERR_DATA_FORMAT', /state\.json is not valid JSON/),
    );
    rmSync(join(dir, 'state.json'));
    expect(spawnSync('mkfifo', [join(dir, 'state.json')]).status).toBe(0);
    await expect(fixed({ path: dir })).rejects.toEqual(
      failure('ERR_FILE_OPEN', /state\.json is not a regular file/),
    );
    const splits = temporaryFolder();
    writeFileSync(join(splits, 'dataset_dict.json'), '{"splits": ["train"]}');
    await expect(fixed({ path: splits })).rejects.toEqual(
      expect.objectContaining({ hint: expect.stringContaining('splits') }),
    );
  });

  test('has the names of its text encoders where dataset_info.json has them, and columns of any name still', async () => {
    const dir = copyFixture('nested');
    const path = join(dir, 'dataset_info.json');
    const info = JSON.parse(readFileSync(path, 'utf8'));
    const encoders = { clip_l: 'sd3/text_encoder', clip_g: 'sd3/text_encoder_2', t5: 'sd3/text_encoder_3' };
    expect((await nested({ path: dir })).encoders).toBeNull();
    writeFileSync(path, JSON.stringify({ ...info, encoders }));
    expect((await nested({ path: dir })).encoders).toEqual(encoders);
    // Without a configuration, every column of numbers is judged.
    const { judged, hasRoles } = await checkColumns(openSource(dir), null, null);
    expect([judged.length, hasRoles]).toEqual([6, false]);
    // Another program may use the key for something else.
    writeFileSync(path, JSON.stringify({ ...info, encoders: ['jpeg'] }));
    expect((await nested({ path: dir })).encoders).toBeNull();
  });

  test('has a warning where the configuration scales latents again, with the names of its encoders too', async () => {
    const dir = copyFixture('nested');
    const warnings = async (change: Partial<DataConfig>) => {
      const config = { ...fixtureConfig(dir, false), on_non_finite: 'fail' as const, ...change };
      const checked = await checkColumns(openSource(dir), config, null);
      const atStart = await scalingWarning(await openDataset(config));
      return [checked.warnings.some((warning) => warning.includes('standard deviation')), atStart !== null];
    };
    expect(await warnings({})).toEqual([false, false]);
    expect(await warnings({ latent_scale: 1.5305 })).toEqual([true, true]);
    const path = join(dir, 'dataset_info.json');
    const encoders = { clip_l: 'sd3/text_encoder', clip_g: 'sd3/text_encoder_2', t5: 'sd3/text_encoder_3' };
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), encoders }));
    expect(await warnings({})).toEqual([false, false]);
    expect(await warnings({ latent_scale: 1.5305 })).toEqual([true, true]);
    expect(await warnings({ latent_shift: 2 })).toEqual([true, true]);
  });

  test('takes the shapes of ArrayND from dataset_info.json, and refuses data of another shape', async () => {
    const dir = copyFixture('nested');
    const info = JSON.parse(readFileSync(join(dir, 'dataset_info.json'), 'utf8'));
    info.features.t5.shape = [4, 320];
    writeFileSync(join(dir, 'dataset_info.json'), JSON.stringify(info));
    await expect(nested({ path: dir })).rejects.toEqual(
      failure('ERR_DATA_SHAPE', /column "t5", row 0: expected 4 x 320 elements, received 8 x 160/),
    );
    // The length that a list of lists states is that of the outer list alone.
    const list = {
      _type: 'List',
      feature: { _type: 'List', feature: { _type: 'Value' }, length: -1 },
      length: 8,
    };
    const write = (t5: object) => {
      info.features = { t5 };
      writeFileSync(join(dir, 'dataset_info.json'), JSON.stringify(info));
    };
    write(list);
    expect((await nested({ path: dir })).text.t5Dim).toBe(160);
    write({ ...list, feature: { _type: 'Value' }, length: 1279 });
    await expect(nested({ path: dir })).rejects.toEqual(
      failure('ERR_DATA_SHAPE', /column "t5", row 0: expected 1279 elements, received 8 x 160/),
    );
    rmSync(join(dir, 'dataset_info.json'));
    expect((await nested({ path: dir })).text.t5Dim).toBe(160);
  });

  test.each([
    [
      [4, 16],
      [4, 4, 4],
    ],
    [
      [16, 4],
      [4, 4, 4],
    ],
    [
      [1, 4, 16, 1],
      [4, 4, 4],
    ],
    [[64], [4, 4, 4]],
    [
      [4, 4, 4, 1],
      [4, 4, 4],
    ],
    [
      [2, 32],
      [4, 4, 4],
    ],
    [
      [8, 2, 4],
      [4, 4, 4],
    ],
  ])('a shape of %j fits the configured %j if it only joins neighbouring sides', (sides, latent) => {
    const levels = sides.map((size) => ({ kind: 'fixed' as const, size }));
    const column = numericData({ element: 'float16', levels, skipped: 0 }, 3);
    const path = huggingFaceFolder([arrowBytes([{ latent: column }], { format: 'stream' })]);
    const source = openSource(path);
    const join = () => joinColumn(source, 'latent', 'latent', latent);
    const fits = !['2,32', '8,2,4'].includes(sides.join());
    if (fits) expect(join().spec).toMatchObject({ width: 64, rowBytes: 128 });
    else {
      const expected = expect.stringContaining(`expected 4 x 4 x 4 elements, received ${sides.join(' x ')}`);
      const hint = expect.stringContaining('data.latent_shape');
      expect(join).toThrow(expect.objectContaining({ code: 'ERR_DATA_SHAPE', message: expected, hint }));
    }
  });

  test('is refused when empty, when files differ, and when it has fewer rows than a batch', async () => {
    const column = (rows: number, element: 'float16' | 'float32', size = 4) => ({
      latent: numericData({ element, levels: [{ kind: 'fixed', size }], skipped: 0 }, rows),
    });
    const bytes = (...parameters: Parameters<typeof column>) =>
      arrowBytes([column(...parameters)], { format: 'stream' });
    const open = (...files: Uint8Array[]) =>
      openDataset({ ...fixtureConfig(huggingFaceFolder(files), true), latent_shape: [1, 2, 2] });
    await expect(open(bytes(0, 'float16'))).rejects.toEqual(failure('ERR_DATA_EMPTY', /has no rows/));
    await expect(open()).rejects.toEqual(failure('ERR_DATA_EMPTY', /has no rows/));
    await expect(open(bytes(2, 'float16'), bytes(2, 'float32'))).rejects.toEqual(
      failure('ERR_DATA_TYPE', /data-1\.arrow, column "latent", row 2: expected float16 .* received float32/),
    );
    await expect(open(bytes(2, 'float16'), bytes(3, 'float16', 5))).rejects.toEqual(
      failure(
        'ERR_DATA_SHAPE',
        /data-1\.arrow, column "latent", row 2: expected 1 x 2 x 2 elements, received 5/,
      ),
    );
    const { hash, rows } = await fixed();
    expect(() => new SamplePlan([firstSegment(hash, rows, 16, 0)]).checkBatch(64)).toThrow(
      failure(
        'ERR_DATA_EMPTY',
        /48 rows, and data\.validation_rows holds out 16 of them\. .*: 32, fewer than one batch/,
      ),
    );
  });

  test('reads rows on across files, empty ones between', async () => {
    const part = (first: number, rows: number) =>
      arrowBytes(
        [
          {
            id: stringData(Array.from({ length: rows }, (_, i) => `r${first + i}`)),
            latent: numericData(
              { element: 'float32', levels: [{ kind: 'list', size: 4 }], skipped: 0 },
              rows,
              first,
            ),
          },
        ],
        { format: first === 0 ? 'file' : 'stream' },
      );
    const dir = huggingFaceFolder([part(0, 3), part(3, 0), part(3, 2)]);
    const source = openSource(dir);
    expect(source.rows).toBe(5);
    const report = await inspectDataset(source, 'latent', null);
    expect(report.columns.map(({ problem }) => problem)).toEqual([null, null]);
    expect(report.columns[1]!.statistics!.nonFinite).toBe(0);
  });
});

const schema: ShardSchema = {
  columns: [
    { name: 'id', type: 'int64', shape: [] },
    { name: 'original.caption', type: 'utf8', shape: [] },
    { name: 'latent', type: 'float16', shape: [2, 4, 4] },
    { name: 'original.clip_l', type: 'float16', shape: [2, 3] },
    { name: 'original.clip_l_pooled', type: 'float32', shape: [3] },
    { name: 'original.clip_g', type: 'float16', shape: [2, 5] },
    { name: 'original.clip_g_pooled', type: 'float16', shape: [5] },
    { name: 'original.t5', type: 'float16', shape: [3, 8] },
  ],
  encoders: {
    clip_l: { name: 'l', tokens: 2, dim: 3, pooled_dim: 3 },
    clip_g: { name: 'g', tokens: 2, dim: 5, pooled_dim: 5 },
    t5: { name: 't', tokens: 3, dim: 8, pooled_dim: null },
  },
  latents: {},
  generator: {},
};

function* rows(
  count: number,
  broken: { row: number; column: string; value: number } | null = null,
): Generator<Row> {
  for (let r = 0; r < count; r++) {
    const row: Row = { id: BigInt(1000 + r), 'original.caption': `caption ${r}` };
    for (const { name, type, shape } of schema.columns) {
      if (type !== 'float16' && type !== 'float32') continue;
      const width = shape.reduce((a, b) => a * b, 1);
      row[name] = Float32Array.from({ length: width }, (_, i) => ((r * 13 + i) % 64) / 4);
      if (broken?.row === r && broken.column === name) (row[name] as Float32Array)[1] = broken.value;
    }
    yield row;
  }
}

async function ownSet(
  count = 300,
  perShard = 130,
  broken: Parameters<typeof rows>[1] = null,
): Promise<string> {
  const dir = join(temporaryFolder(), 'own');
  await writeShards(dir, schema, rows(count, broken), perShard);
  return dir;
}

const own = (path: string): DataConfig => ({ path, columns: null, latent_shape: null, text_shape: null });

describe("a folder of the project's own format", () => {
  test('opens with shapes, ids and captions, verified', async () => {
    const dir = await ownSet();
    const data = await openDataset(own(dir));
    expect(data).toMatchObject({ rows: 300, latent: [2, 4, 4], hasSynthetic: false });
    expect(data.ids([0, 299])).toEqual(['1000', '1299']);
    expect(openSource(dir).label('original.caption', 131)).toBe('caption 131');
    const dataset = await native().mapDataset(data.spec);
    for (const row of [0, 129, 130, 299]) {
      expect([...dataset.row('original.t5', row)]).toEqual(
        Array.from({ length: 24 }, (_, i) => ((row * 13 + i) % 64) / 4),
      );
    }
    dataset.close();
  });

  test('has a hash of its contents alone', async () => {
    const dir = await ownSet();
    const copy = join(temporaryFolder(), 'elsewhere');
    cpSync(dir, copy, { recursive: true });
    const { hash } = await openDataset(own(dir));
    expect((await openDataset(own(copy))).hash).toBe(hash);
    expect((await openDataset(own(await ownSet(299)))).hash).not.toBe(hash);
    const other = await ownSet(300, 130, { row: 7, column: 'latent', value: 3.125 });
    expect((await openDataset(own(other))).hash).not.toBe(hash);
  });

  test('names file, column and rows of a flipped bit', async () => {
    const dir = await ownSet();
    const data = await openDataset(own(dir));
    const column = data.spec.columns.find(({ role }) => role === 'original.clip_g')!;
    const [file, , , byteOffset] = column.segments.subarray(4);
    const path = data.spec.files[file!]!.path;
    const bytes = readFileSync(path);
    bytes[byteOffset! + 70 * column.width * 2 + 3]! ^= 0x10;
    writeFileSync(path, bytes);
    const message =
      /shard-00001\.arrow is damaged: column "original\.clip_g" differs first within rows 194 to 257\. Its SHA-256/;
    await expect(openDataset(own(dir))).rejects.toEqual(failure('ERR_DATA_HASH', message));
    const source = openSource(dir);
    await expect(verifyFiles(source, null)).rejects.toEqual(failure('ERR_DATA_HASH', message));
  });

  test('finds a flipped bit wherever it is', async () => {
    const dir = await ownSet(20, 20);
    const path = join(dir, 'shard-00000.arrow');
    const bytes = readFileSync(path);
    for (let i = 0; i < bytes.length; i += 13) {
      const copy = Buffer.from(bytes);
      copy[i]! ^= 1 << (i % 8);
      writeFileSync(path, copy);
      await expect(openDataset(own(dir)), `byte ${i}`).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_(DATA|FILE)_/),
        message: expect.stringContaining('shard-00000.arrow'),
      });
    }
  });

  test('names a truncated, missing or exchanged file', async () => {
    const dir = await ownSet();
    const path = join(dir, 'shard-00001.arrow');
    const whole = readFileSync(path);
    truncateSync(path, whole.length - 1);
    await expect(openDataset(own(dir))).rejects.toEqual(
      failure('ERR_FILE_TRUNCATED', /shard-00001\.arrow is truncated: it has/),
    );
    writeFileSync(path, Buffer.concat([whole, Buffer.alloc(1)]));
    await expect(openDataset(own(dir))).rejects.toEqual(
      failure('ERR_DATA_HASH', /shard-00001\.arrow has changed/),
    );
    cpSync(join(dir, 'shard-00000.arrow'), path);
    await expect(openDataset(own(dir))).rejects.toEqual(failure('ERR_FILE_TRUNCATED', /shard-00001\.arrow/));
    rmSync(path);
    await expect(openDataset(own(dir))).rejects.toEqual(
      failure('ERR_FILE_OPEN', /shard-00001\.arrow is missing/),
    );
  });

  test('counts non-finite values and names the first row', async () => {
    const dir = await ownSet(300, 130, { row: 211, column: 'original.t5', value: Number.NaN });
    const report = await inspectDataset(openSource(dir), 'latent', null);
    const t5 = report.columns.find(({ name }) => name === 'original.t5')!;
    expect(t5.statistics).toMatchObject({ nonFinite: 1, firstNonFiniteRows: [211] });
    expect(report.columns.filter(({ statistics }) => statistics?.nonFinite).length).toBe(1);
  });

  test('does not take columns from the configuration', async () => {
    const columns = fixtureConfig('', true).columns;
    await expect(openDataset({ ...own(await ownSet()), columns })).rejects.toEqual(
      failure('ERR_CONFIG', /^data\.columns: expected null, because the manifest of /),
    );
  });

  test('is refused when it lacks a column of a role', async () => {
    const dir = join(temporaryFolder(), 'own');
    const without = { ...schema, columns: schema.columns.filter(({ name }) => name !== 'original.t5') };
    await writeShards(dir, without, rows(4), 4);
    await expect(openDataset(own(dir))).rejects.toEqual(
      failure('ERR_DATA_COLUMN', /shard-00000\.arrow has no column "original\.t5"/),
    );
  });
});
