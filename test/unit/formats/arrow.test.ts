import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Data,
  type DataType,
  Dictionary,
  Field,
  FixedSizeList,
  Float16,
  Int32,
  LargeList,
  List,
  makeData,
  Utf8,
  vectorFromArray,
} from 'apache-arrow';
import { describe, expect, test } from 'vitest';
import type { OrchestratorError } from '../../../src/errors.js';
import { numericColumn } from '../../../src/formats/arrow/columns.js';
import { readArrow } from '../../../src/formats/arrow/file.js';
import { labelAt } from '../../../src/formats/arrow/labels.js';
import { native } from '../../../src/native/load.js';
import {
  arrowBytes,
  type ColumnOptions,
  columnSpec,
  FIXTURES,
  numericData,
  sampleValue,
  specOf,
  stringData,
} from '../../support/arrow-files.js';
import { temporaryFolder } from '../../support/folders.js';

function fileOf(bytes: Uint8Array): string {
  const path = join(temporaryFolder(), 'x.arrow');
  writeFileSync(path, bytes);
  return path;
}

const failure = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) });

const LAYOUTS: [string, ColumnOptions][] = [
  ['fixed-size lists', { element: 'float16', levels: [{ kind: 'fixed', size: 12 }], skipped: 0 }],
  [
    'nested fixed-size lists',
    {
      element: 'float16',
      levels: [
        { kind: 'fixed', size: 3 },
        { kind: 'fixed', size: 4 },
      ],
      skipped: 0,
    },
  ],
  ['lists', { element: 'float16', levels: [{ kind: 'list', size: 12 }], skipped: 0 }],
  ['lists of float32', { element: 'float32', levels: [{ kind: 'list', size: 12 }], skipped: 0 }],
  [
    'lists that begin inside their child',
    { element: 'float32', levels: [{ kind: 'list', size: 12 }], skipped: 24 },
  ],
  ['large lists', { element: 'float16', levels: [{ kind: 'large', size: 12 }], skipped: 36 }],
  [
    'lists of lists of lists',
    {
      element: 'float16',
      levels: [
        { kind: 'list', size: 2 },
        { kind: 'list', size: 3 },
        { kind: 'list', size: 2 },
      ],
      skipped: 24,
    },
  ],
  [
    'mixed nesting',
    {
      element: 'float32',
      levels: [
        { kind: 'large', size: 2 },
        { kind: 'fixed', size: 3 },
        { kind: 'list', size: 2 },
      ],
      skipped: 12,
    },
  ],
  [
    'fixed-size lists of lists',
    {
      element: 'float16',
      levels: [
        { kind: 'fixed', size: 6 },
        { kind: 'list', size: 2 },
      ],
      skipped: 0,
    },
  ],
];

describe.each(['file', 'stream'] as const)('the %s format', (format) => {
  test.each(LAYOUTS)('finds the values of %s', async (_, options) => {
    const batch = (first: number, rows: number) => ({
      before: stringData(Array.from({ length: rows }, (_, i) => `text ${first + i}`)),
      values: numericData(options, rows, first),
      after: numericData({ element: 'int32', levels: [], skipped: 0 }, rows),
    });
    const path = fileOf(arrowBytes([batch(0, 5), batch(5, 1), batch(6, 7)], { format }));
    const file = readArrow(path);
    expect(file.rows).toBe(13);
    const column = numericColumn(file, 'values');
    expect(column.shape).toEqual(options.levels.map(({ size }) => size));
    const dataset = await native().mapDataset(
      specOf(path, file.bytes, 13, [columnSpec('values', 12, column)]),
    );
    for (let row = 0; row < 13; row++) {
      expect([...dataset.row('values', row)]).toEqual(
        Array.from({ length: 12 }, (_, i) => sampleValue(row, i)),
      );
    }
    dataset.close();
    const labels = (name: string, ...rows: number[]) => rows.map((row) => labelAt(file, name, row));
    expect(labels('before', 12, 0, 5)).toEqual(['text 12', 'text 0', 'text 5']);
    expect(labels('after', 4, 6)).toEqual(['15', '0']);
  });

  test('names what cannot be read', () => {
    const lists: ColumnOptions = { element: 'float16', levels: [{ kind: 'list', size: 4 }], skipped: 0 };
    const strings = stringData(['a', 'b', 'c']);
    const dictionary = vectorFromArray(['a', 'b', 'a'], new Dictionary(new Utf8(), new Int32()))
      .data[0]! as Data<DataType>;
    const path = fileOf(
      arrowBytes(
        [
          {
            strings,
            dictionary,
            double: numericData({ ...lists, element: 'float64' }, 3),
            integers: numericData({ ...lists, element: 'int32' }, 3),
            scalar: numericData({ ...lists, levels: [] }, 3),
            empty: numericData({ ...lists, levels: [{ kind: 'list', size: 0 }] }, 3),
          },
        ],
        { format },
      ),
    );
    const file = readArrow(path);
    const numeric = (name: string) => () => numericColumn(file, name);
    expect(numeric('strings')).toThrow(
      failure('ERR_DATA_TYPE', /x\.arrow, column "strings": .* received utf8/),
    );
    expect(numeric('dictionary')).toThrow(failure('ERR_DATA_TYPE', /received dictionary-encoded/));
    expect(numeric('double')()).toMatchObject({ type: 'float64', shape: [4], rowBytes: 32 });
    expect(numeric('integers')).toThrow(failure('ERR_DATA_TYPE', /received list of int32/));
    expect(numeric('scalar')).toThrow(failure('ERR_DATA_TYPE', /received float16/));
    expect(numeric('empty')).toThrow(failure('ERR_DATA_SHAPE', /"empty", row 0: the list is empty/));
    expect(numeric('absent')).toThrow(
      failure('ERR_DATA_COLUMN', /x\.arrow has no column "absent"; it has "strings", "dictionary", "double"/),
    );
    expect(() => labelAt(file, 'double', 0)).toThrow(failure('ERR_DATA_TYPE', /expected utf8/));
    expect(() => labelAt(file, 'strings', 3)).toThrow(failure('ERR_DATA_ROW', /no row 3; it has 3/));
  });

  test('names the row of a list of another length', () => {
    const batch = (sizes: number[]) => {
      const total = sizes.reduce((a, b) => a + b, 0);
      const offsets = [0];
      for (const size of sizes) offsets.push(offsets.at(-1)! + size);
      const child = makeData({
        type: new Float16(),
        length: total,
        nullCount: 0,
        data: new Uint16Array(total),
      });
      const type = new List(new Field('item', new Float16(), true));
      const valueOffsets = Int32Array.from(offsets);
      return { ragged: makeData({ type, length: sizes.length, nullCount: 0, valueOffsets, child }) };
    };
    const inBatch = readArrow(fileOf(arrowBytes([batch([4, 4]), batch([4, 4, 3, 5])], { format })));
    expect(() => numericColumn(inBatch, 'ragged')).toThrow(
      failure('ERR_DATA_SHAPE', /x\.arrow, column "ragged", row 4: expected a list of 4 elements/),
    );
    const between = readArrow(fileOf(arrowBytes([batch([4, 4]), batch([5, 5])], { format })));
    expect(() => numericColumn(between, 'ragged')).toThrow(
      failure(
        'ERR_DATA_SHAPE',
        /column "ragged", row 2: expected a list of 4 elements, like those before it/,
      ),
    );
  });

  test.each(['list', 'large_list'])('checks more offsets (%s) than one read takes', (kind) => {
    const rows = 70_000;
    const column = (change: (offsets: number[]) => void) => {
      const offsets = Array.from({ length: rows + 1 }, (_, i) => 6 + 3 * i);
      change(offsets);
      const length = 6 + 3 * rows;
      const child = makeData({ type: new Float16(), length, nullCount: 0, data: new Uint16Array(length) });
      const item = new Field('item', new Float16(), true);
      const common = { length: rows, nullCount: 0, child };
      const latent: Data<DataType> =
        kind === 'list'
          ? makeData({ type: new List(item), ...common, valueOffsets: Int32Array.from(offsets) })
          : makeData({
              type: new LargeList(item),
              ...common,
              valueOffsets: BigInt64Array.from(offsets, BigInt),
            });
      return () => numericColumn(readArrow(fileOf(arrowBytes([{ latent }], { format }))), 'latent');
    };
    expect(column(() => {})().shape).toEqual([3]);
    const irregular = column((offsets) => {
      offsets[65_538]! += 1;
    });
    expect(irregular).toThrow(
      failure('ERR_DATA_SHAPE', /x\.arrow, column "latent", row 65537: expected a list of 3 elements/),
    );
    const negative = column((offsets) => {
      for (const i of offsets.keys()) offsets[i]! -= 9;
    });
    expect(negative).toThrow(failure('ERR_DATA_FORMAT', /column "latent", record batch 0/));
    const falling = column((offsets) => {
      offsets.reverse();
    });
    expect(falling).toThrow(failure('ERR_DATA_FORMAT', /list offsets do not rise/));
  });

  test('names the row of a null', () => {
    const type = new FixedSizeList(2, new Field('item', new Float16(), true));
    const child = (nulls: Uint8Array | null) =>
      makeData({
        type: new Float16(),
        length: 10,
        nullCount: nulls ? 1 : 0,
        ...(nulls ? { nullBitmap: nulls } : {}),
        data: new Uint16Array(10),
      });
    const outer = makeData({
      type,
      length: 5,
      nullCount: 1,
      nullBitmap: Uint8Array.of(0b10111),
      child: child(null),
    });
    const inner = makeData({ type, length: 5, nullCount: 0, child: child(Uint8Array.of(0b10111111, 0b11)) });
    const file = readArrow(fileOf(arrowBytes([{ outer, inner }], { format })));
    expect(() => numericColumn(file, 'outer')).toThrow(
      failure('ERR_DATA_NULL', /column "outer", row 3: .* received null/),
    );
    expect(() => numericColumn(file, 'inner')).toThrow(
      failure('ERR_DATA_NULL', /column "inner", row 3: .* received null/),
    );
  });

  test('refuses compressed bodies, and says how to write them', () => {
    const values = numericData({ element: 'float16', levels: [{ kind: 'fixed', size: 2 }], skipped: 0 }, 4);
    const file = readArrow(fileOf(arrowBytes([{ values }], { format, compressed: true })));
    const error = expect.objectContaining({
      code: 'ERR_DATA_COMPRESSED',
      message: expect.stringMatching(
        /x\.arrow, column "values", row 0: record batch 0 is compressed with zstd/,
      ),
      hint: expect.stringContaining('compression=None'),
    });
    expect(() => numericColumn(file, 'values')).toThrow(error);
  });

  test('reports every truncation', () => {
    const values = numericData({ element: 'float16', levels: [{ kind: 'fixed', size: 3 }], skipped: 0 }, 4);
    const whole = arrowBytes([{ values }, { values }], { format });
    const path = fileOf(whole);
    const wrong: string[] = [];
    for (let length = whole.length - 1; length >= 0; length--) {
      truncateSync(path, length);
      let code = 'nothing was thrown';
      try {
        readArrow(path);
      } catch (error) {
        code = (error as OrchestratorError).code;
      }
      if (!/^ERR_(FILE_TRUNCATED|DATA_FORMAT)$/.test(code))
        wrong.push(`${length} of ${whole.length} bytes: ${code}`);
    }
    expect(wrong).toEqual([]);
  });
});

describe('readArrow', () => {
  test('refuses what is no Arrow file', () => {
    expect(() => readArrow(join(temporaryFolder(), 'none.arrow'))).toThrow(
      failure('ERR_FILE_OPEN', /none\.arrow/),
    );
    expect(() => readArrow(temporaryFolder())).toThrow(failure('ERR_FILE_OPEN', /not a regular file/));
    expect(() => readArrow(fileOf(new Uint8Array(0)))).toThrow(failure('ERR_FILE_TRUNCATED', /0 bytes/));
    expect(() => readArrow(fileOf(Buffer.from('{"json": "is not Arrow, however long it is"}')))).toThrow(
      failure('ERR_DATA_FORMAT', /is it an Arrow IPC stream/),
    );
  });

  test('asks for no memory that a length field names', () => {
    const bytes = readFileSync(join(FIXTURES, 'fixed', 'data-00000-of-00002.arrow'));
    for (const length of [0x7fffffff, 0xfffffffe, 0x03ffffff, bytes.length - 4]) {
      const copy = Buffer.from(bytes);
      copy.writeUInt32LE(length, 4);
      expect(() => readArrow(fileOf(copy))).toThrow(
        failure(length > 2 ** 26 ? 'ERR_DATA_FORMAT' : 'ERR_FILE_TRUNCATED', /./),
      );
    }
  });
});
