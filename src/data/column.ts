/** A column across all files of a data set. */
import { OrchestratorError } from '../errors.js';
import type { ColumnSpec, DatasetSpec } from '../native/contract.js';
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
): TableColumn {
  const shapes = [configured, source.shapes.get(name)].filter((shape) => shape != null);
  const spec: ColumnSpec = { role, type: 'float16', width: 0, segments: [] };
  let row = 0;
  for (const part of source.parts(name)) {
    if (part.segments.length === 0) continue;
    const where = `${source.files[part.file]!.path}, column "${name}", row ${row}`;
    if (spec.segments.length === 0) spec.type = part.type;
    if (part.type !== spec.type) {
      throw new OrchestratorError(
        'ERR_DATA_TYPE',
        `${where}: expected ${spec.type} as in the previous files, received ${part.type}`,
      );
    }
    for (const shape of shapes) requireShape(where, part.shape, shape);
    if (spec.segments.length === 0) shapes.push(part.shape);
    for (const segment of part.segments) {
      spec.segments.push({ ...segment, file: part.file, firstRow: row + segment.firstRow });
    }
    row += part.segments.reduce((sum, { rows }) => sum + rows, 0);
  }
  spec.width = product(shapes[0]!);
  return { spec, shapes };
}

/** What is mapped natively to read columns. */
export function datasetSpec({ files, rows }: DataSource, columns: readonly TableColumn[]): DatasetSpec {
  return { files, rows, columns: columns.map(({ spec }) => spec) };
}

/** A flat list may have any shape with as many elements; a nested one states its shape. */
function requireShape(where: string, actual: readonly number[], wanted: readonly number[]): void {
  if (product(actual) === product(wanted)) {
    if (actual.length === 1 || wanted.length === 1 || actual.join() === wanted.join()) return;
  }
  throw new OrchestratorError(
    'ERR_DATA_SHAPE',
    `${where}: expected ${wanted.join(' x ')} elements, received ${actual.join(' x ')}`,
  );
}

/** The number of elements of a shape. */
export function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
