/** Columns of one shape, however pyarrow and `datasets` say it (test/fixtures/columns/make.py). */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { trimmed } from '../../src/data/column.js';
import { numericColumn, type Reading } from '../../src/formats/arrow/columns.js';
import { readArrow } from '../../src/formats/arrow/file.js';
import { labelAt } from '../../src/formats/arrow/labels.js';
import { native } from '../../src/native/load.js';
import { columnSpec, specOf } from '../support/arrow-files.js';

const pathOf = (name: string) =>
  join(fileURLToPath(new URL('../fixtures/columns/', import.meta.url)), `${name}.arrow`);
const ROWS = 5;
const SIZE = 48;
const valuesOf = (row: number) => Array.from({ length: SIZE }, (_, i) => ((31 * row + 7 * i) % 200) / 8 - 12);

const bfloat16: Reading = { bfloat16: true };
const ofSize: Reading = { elements: SIZE };

test.each<[name: string, type: string, shape: number[], reading?: Reading]>([
  ['fixed-fixed-fixed', 'float16', [4, 2, 6]],
  ['list-list-list', 'float16', [4, 2, 6]],
  ['large-large-large', 'float16', [4, 2, 6]],
  ['list-fixed-large', 'float16', [4, 2, 6]],
  ['view-list-fixed', 'float16', [4, 2, 6]],
  ['large-view', 'float16', [4, 2, 6]],
  ['leading-ones', 'float16', [1, 1, 4, 2, 6]],
  ['float32-flat', 'float32', [48]],
  ['float64', 'float64', [4, 2, 6]],
  ['tensor', 'float16', [4, 2, 6]],
  ['datasets-list', 'float16', [4, 2, 6]],
  ['datasets-array3d', 'float16', [4, 2, 6]],
  ['datasets-array4d', 'float32', [1, 4, 2, 6]],
  ['datasets-struct', 'float32', [4, 2, 6]],
  ['bfloat16-uint16', 'bfloat16', [4, 2, 6], bfloat16],
  ['bfloat16-int16', 'bfloat16', [48], bfloat16],
  ['bfloat16-bytes', 'bfloat16', [48], bfloat16],
  ['bfloat16-npy', 'bfloat16', [4, 2, 6], bfloat16],
  ['bytes-float16', 'float16', [48], ofSize],
  ['bytes-float32', 'float32', [48], ofSize],
  ['bytes-float64', 'float64', [48], ofSize],
  ['npy-float16', 'float16', [4, 2, 6]],
  ['npy-float32', 'float32', [4, 2, 6]],
  ['npy-float64', 'float64', [4, 2, 6]],
  ['captions', 'float16', [4, 2, 6]],
])('%s is read', async (name, type, shape, reading = {}) => {
  const file = readArrow(pathOf(name));
  expect(file.batches.length).toBe(2);
  const column = numericColumn(file, 'latent', reading);
  expect(column).toMatchObject({ type, shape });
  expect(trimmed(column.shape, 3).length).toBe(shape.length === 1 ? 1 : 3);
  const spec = specOf(file.path, file.bytes, ROWS, [columnSpec('latent', SIZE, column)]);
  const dataset = await native().mapDataset(spec);
  for (let row = 0; row < ROWS; row++) expect([...dataset.row('latent', row)]).toEqual(valuesOf(row));
  dataset.close();
});

test('a field of a struct has the name that `datasets` gives it when it flattens', () => {
  const file = readArrow(pathOf('struct-of-two'));
  expect(numericColumn(file, 'latent.b').shape).toEqual([4, 2, 6]);
  expect(labelAt(file, 'latent.a', 4)).toBe('4');
});

test.each<[name: string, code: string, message: RegExp, hint: RegExp, reading?: Reading]>([
  ['struct-of-two', 'ERR_DATA_TYPE', /received struct of a, b/, /"latent\.a", "latent\.b"/],
  ['tensor-permuted', 'ERR_DATA_SHAPE', /axes are permuted \(2, 1, 0\)/, /ascontiguousarray/],
  ['bfloat16-uint16', 'ERR_DATA_TYPE', /received list of list of list of uint16/, /data\.bfloat16/],
  ['bfloat16-npy', 'ERR_DATA_TYPE', /NumPy's type [<|]V2/, /data\.bfloat16/],
  ['bytes-float16', 'ERR_DATA_TYPE', /96 bytes have no element type$/, /data\.latent_shape/],
  ['bytes-float16', 'ERR_DATA_TYPE', /96 bytes have no element type for 50/, /save lists/, { elements: 50 }],
  ['npy-int32', 'ERR_DATA_TYPE', /NumPy's type <i4/, /astype/],
  ['npy-fortran', 'ERR_DATA_TYPE', /column-major/, /ascontiguousarray/],
  ['npy-two-shapes', 'ERR_DATA_SHAPE', /row 1: expected an array of 12 x 4/, /one shape/],
  ['ragged', 'ERR_DATA_SHAPE', /row 1: expected a list of 48 elements/, /pad or cut/],
  ['null', 'ERR_DATA_NULL', /row 4: expected a value, received null/, /dataset\.filter/],
  ['integers', 'ERR_DATA_TYPE', /received list of list of list of int64/, /cast_column\("latent"/],
  ['dictionary-numbers', 'ERR_DATA_TYPE', /received dictionary-encoded/, /dictionary_decode/],
  ['view-reversed', 'ERR_DATA_SHAPE', /row 1: expected a list of 48 elements right after/, /cast/],
])('%s is refused, and the hint says what helps', (name, code, message, hint, reading = {}) => {
  expect(() => numericColumn(readArrow(pathOf(name)), 'latent', reading)).toThrow(
    expect.objectContaining({
      code,
      message: expect.stringMatching(message),
      hint: expect.stringMatching(hint),
    }),
  );
});

describe('captions', () => {
  const file = readArrow(pathOf('captions'));

  test.each(['utf8', 'large_utf8', 'dictionary'])('of the type %s are read', (name) => {
    const read = Array.from({ length: ROWS }, (_, row) => labelAt(file, name, row));
    expect(read).toEqual(['caption 0', 'caption 1', 'caption 2', 'caption 0', 'caption 1']);
  });

  test('may be integers', () => {
    expect(labelAt(file, 'label', 0)).toBe('-1');
  });

  test.each(['string_view', 'run_end_encoded'])(
    'of the type %s are refused, and the hint is a cast',
    (name) => {
      expect(() => labelAt(file, name, 0)).toThrow(
        expect.objectContaining({ code: 'ERR_DATA_TYPE', hint: expect.stringContaining('pyarrow.string()') }),
      );
    },
  );

  test('of a dictionary that grows in the file', () => {
    const grown = readArrow(pathOf('dictionary-delta'));
    expect([0, 1, 2, 3].map((row) => labelAt(grown, 'word', row))).toEqual(['a', 'b', 'c', 'a']);
  });
});
