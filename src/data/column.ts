/** A column across all files of a data set. */
import { OrchestratorError } from '../errors.js';
import { type CheckListOffsets, numericColumn } from '../formats/arrow/columns.js';
import type { ColumnSpec } from '../native/contract.js';
import { native } from '../native/load.js';
import type { DataSource } from './source.js';

/** A column with the shape of its rows. */
export interface TableColumn {
  spec: ColumnSpec;
  /** Shape of a row. */
  shape: number[];
}

/**
 * Joins a column across all files. The shape of its rows, which must have `rank` dimensions (null: any), is
 * the configured one, or the one that the folder states, or the nesting in the files.
 *
 * @throws OrchestratorError ERR_DATA_*: names file, column and row.
 */
export function joinColumn(
  source: DataSource,
  role: string,
  name: string,
  rank: 1 | 2 | 3 | null,
  configured: readonly number[] | null,
): TableColumn {
  const check: CheckListOffsets = (...parameters) => native().checkListOffsets(...parameters);
  const stated = source.shapes.get(name) ?? null;
  let first: { type: ColumnSpec['type']; shape: number[] } | null = null;
  const spec: ColumnSpec = { role, type: 'float16', width: 0, segments: [] };
  let row = 0;
  for (const [number, file] of source.files.entries()) {
    const column = numericColumn(file, name, check);
    if (column.segments.length === 0) continue;
    const where = `${file.path}, column "${name}", row ${row}`;
    for (const wanted of [configured, stated]) if (wanted) requireShape(where, column.shape, wanted);
    first ??= { type: column.type, shape: column.shape };
    if (column.type !== first.type) {
      throw new OrchestratorError(
        'ERR_DATA_TYPE',
        `${where}: expected ${first.type} as in the previous files, received ${column.type}`,
      );
    }
    requireShape(where, column.shape, first.shape);
    for (const segment of column.segments) {
      spec.segments.push({ ...segment, file: number, firstRow: row + segment.firstRow });
    }
    row += file.rows;
  }
  const candidates = [configured, stated, first?.shape ?? null];
  const shape = candidates.find((c) => c && (rank === null || c.length === rank));
  if (!first || !shape) {
    const key = rank === 3 ? 'data.latent_shape' : 'data.text_shape';
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${source.files[0]!.path}, column "${name}" (${role}), row 0: expected a shape of ${rank} dimensions, received ${first?.shape.join(' x ')}`,
      rank === 1 ? null : `Flat lists have no shape: set ${key} in the configuration`,
    );
  }
  spec.type = first.type;
  spec.width = product(shape);
  return { spec, shape: [...shape] };
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

function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
