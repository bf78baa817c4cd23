/** A column across all files of a data set. */
import { OrchestratorError } from '../errors.js';
import type { NumericColumn, Reading } from '../formats/arrow/columns.js';
import { type ColumnSpec, type DatasetSpec, ELEMENT_BYTES } from '../native/dataset-contract.js';
import type { DataSource } from './source.js';

/** A column with the shape of its rows. */
export interface TableColumn {
  spec: ColumnSpec;
  /**
   * The shapes of a row that the configuration, the metadata and the files state; one of them may be flat
   * where another is not.
   */
  shapes: (readonly number[])[];
}

/**
 * Joins the parts of a column, whose rows must have one type and the shapes that the configuration and the
 * metadata state. ERR_DATA_* names file, column and row.
 */
export function joinColumn(
  source: DataSource,
  role: string,
  name: string,
  configured: readonly number[] | null = null,
  reading: Reading = {},
): TableColumn {
  const shapes = [configured, source.shapes.get(name)].filter((shape) => shape != null);
  let first: NumericColumn | null = null;
  const segments: number[] = [];
  let row = 0;
  const elements = reading.elements ?? (configured === null ? null : product(configured));
  for (const part of source.parts(name, { ...reading, elements })) {
    if (part.segments.length === 0) continue;
    const where = `${source.files[part.file]!.path}, column "${name}", row ${row}`;
    first ??= part;
    if (part.type !== first.type) {
      throw new OrchestratorError(
        'ERR_DATA_TYPE',
        `${where}: expected ${first.type} as in the previous files, received ${part.type}`,
      );
    }
    for (const shape of shapes) requireShape(where, part.shape, shape);
    if (part === first) shapes.push(part.shape);
    if (part.rowBytes !== first.rowBytes) {
      throw new OrchestratorError(
        'ERR_DATA_SHAPE',
        `${where}: expected ${first.rowBytes} bytes a row as in the previous files, received ${part.rowBytes}`,
      );
    }
    for (const segment of part.segments) {
      segments.push(part.file, row + segment.firstRow, segment.rows, segment.byteOffset);
    }
    row += part.segments.reduce((sum, { rows }) => sum + rows, 0);
  }
  const { type, rowBytes } = first ?? { type: 'float32' as const, rowBytes: 0 };
  const width = product(shapes[0]!);
  return { spec: { role, type, width, rowBytes, segments: Float64Array.from(segments) }, shapes };
}

/** What is mapped natively to read columns, as they are stored. */
export function datasetSpec(
  { files, order, rows }: DataSource,
  columns: readonly TableColumn[],
): DatasetSpec {
  return {
    files,
    storedRows: order === null ? rows : files.reduce((sum, file) => sum + file.rows, 0),
    order,
    columns: columns.map(({ spec }) => spec),
    latentShift: 0,
    latentScale: 1,
  };
}

/** The run of rows that holds a stored row, and the row's position in its file. */
export function locate({ segments, rowBytes }: ColumnSpec, stored: number) {
  let [low, high] = [0, segments.length / 4 - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (segments[4 * middle + 1]! <= stored) low = middle;
    else high = middle - 1;
  }
  const [file, firstRow, rows, byteOffset] = segments.subarray(4 * low, 4 * low + 4);
  return {
    file: file!,
    firstRow: firstRow!,
    rows: rows!,
    offset: byteOffset! + (stored - firstRow!) * rowBytes,
  };
}

/** Bytes of one row's values. */
export function valueBytes({ type, width }: ColumnSpec): number {
  return ELEMENT_BYTES[type] * width;
}

/**
 * Two shapes fit where one only joins neighbouring sides of the other: a flat list fits any shape with as many
 * elements, and 16 x 1024 fits 16 x 32 x 32. Sides of 1 do not count.
 */
function requireShape(where: string, actual: readonly number[], wanted: readonly number[]): void {
  if (product(actual) === product(wanted) && (joins(actual, wanted) || joins(wanted, actual))) return;
  throw new OrchestratorError(
    'ERR_DATA_SHAPE',
    `${where}: expected ${wanted.join(' x ')} elements, received ${actual.join(' x ')}`,
    'The expected shape is that of the configuration (data.latent_shape, data.text_shape) or of dataset_info.json',
  );
}

/** Whether each side of `joined` is the product of some neighbouring sides of `sides`, in their order. */
function joins(joined: readonly number[], sides: readonly number[]): boolean {
  const rest = sides.filter((side) => side !== 1);
  for (const side of joined) {
    let all = 1;
    while (all < side && rest.length > 0) all *= rest.shift()!;
    if (all !== side) return false;
  }
  return rest.length === 0;
}

/** The shape without the sides of 1 that it has in front beyond `rank` dimensions. */
export function trimmed(shape: readonly number[], rank: number): readonly number[] {
  const extra = shape.length - rank;
  return extra > 0 && shape.slice(0, extra).every((side) => side === 1) ? shape.slice(extra) : shape;
}

/** The number of elements of a shape. */
export function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
