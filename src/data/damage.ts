/** Locates damage in a shard by the checksums of its blocks of rows. */
import { crc32 } from 'node:zlib';
import { OrchestratorError } from '../errors.js';
import { FileReader } from '../files/reader.js';
import { numericColumn } from '../formats/arrow/columns.js';
import { type ArrowFile, readArrow } from '../formats/arrow/file.js';
import { product } from './column.js';
import { CHECKSUM_ROWS, type ManifestColumn, type Shard } from './manifest.js';

/**
 * "column "latent" differs first within rows 128 to 191", or what else can be said. `firstRow` is the shard's
 * first row in the data set.
 */
export function placeOfDamage(
  shard: Shard & { path: string },
  columns: readonly ManifestColumn[],
  firstRow: number,
): string {
  let file: ArrowFile;
  try {
    file = readArrow(shard.path);
  } catch (error) {
    return `its Arrow metadata cannot be read (${(error as Error).message})`;
  }
  const places = columns.flatMap(({ name, type }) => {
    const expected = shard.crc32[name];
    if (!expected || (type !== 'float16' && type !== 'float32')) return [];
    try {
      const first = firstDamagedRow(file, name, expected);
      if (first === null) return [];
      const last = Math.min(first + CHECKSUM_ROWS, shard.rows) - 1;
      return [`column "${name}" differs first within rows ${firstRow + first} to ${firstRow + last}`];
    } catch (error) {
      return [`column "${name}" cannot be read (${(error as Error).message})`];
    }
  });
  if (places.length === 0) return 'the difference is outside the numeric columns, in captions or metadata';
  return places.slice(0, 3).join('; ') + (places.length > 3 ? `; and ${places.length - 3} more columns` : '');
}

/** The first row of the first block with another checksum than expected, or null. */
function firstDamagedRow(file: ArrowFile, name: string, expected: readonly number[]): number | null {
  const { type, shape, segments } = numericColumn(file, name);
  const [segment] = segments;
  if (segments.length !== 1 || !segment) {
    throw new OrchestratorError('ERR_DATA_FORMAT', `${file.path}: expected one record batch`);
  }
  const rowBytes = product(shape) * (type === 'float16' ? 2 : 4);
  return FileReader.using(file.path, (reader) => {
    const block = expected.findIndex((sum, i) => {
      const rows = Math.min(CHECKSUM_ROWS, segment.rows - i * CHECKSUM_ROWS);
      const position = segment.byteOffset + i * CHECKSUM_ROWS * rowBytes;
      return crc32(reader.read(position, rows * rowBytes, `rows of "${name}"`)) !== sum;
    });
    return block < 0 ? null : block * CHECKSUM_ROWS;
  });
}
