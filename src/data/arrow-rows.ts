/** Rows in Arrow files that follow each other. */
import { OrchestratorError } from '../errors.js';
import { numericColumn } from '../formats/arrow/columns.js';
import type { ArrowFile } from '../formats/arrow/file.js';
import { labelAt } from '../formats/arrow/labels.js';
import { typeName } from '../formats/arrow/schema.js';
import type { DataSource } from './source.js';

/**
 * The rows and columns of a source whose rows are those of Arrow files, one file after the other, or a
 * selection of them.
 */
export function arrowRows(
  files: readonly ArrowFile[],
  order: Float64Array | null = null,
): Pick<DataSource, 'rows' | 'files' | 'order' | 'columns' | 'parts' | 'label'> {
  return {
    rows: order?.length ?? files.reduce((sum, { rows }) => sum + rows, 0),
    order,
    files: files.map(({ path, bytes, rows }) => ({ path, bytes, rows })),
    columns: (files[0]?.fields ?? []).map((field) => ({ name: field.name, type: typeName(field) })),
    *parts(column, reading) {
      for (const [file, arrow] of files.entries()) yield { file, ...numericColumn(arrow, column, reading) };
    },
    label(column, row) {
      let local = order === null ? row : (order[row] ?? Number.POSITIVE_INFINITY);
      for (const file of files) {
        if (local < file.rows) return labelAt(file, column, local);
        local -= file.rows;
      }
      throw new OrchestratorError('ERR_DATA_ROW', `There is no row ${row} in the data set`);
    },
  };
}
