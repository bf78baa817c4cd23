/** Rows in Arrow files that follow each other. */
import { OrchestratorError } from '../errors.js';
import { labelAt, numericColumn } from '../formats/arrow/columns.js';
import type { ArrowFile } from '../formats/arrow/file.js';
import { typeName } from '../formats/arrow/schema.js';
import type { DataSource } from './source.js';

/** The rows and columns of a source whose rows are those of Arrow files, one file after the other. */
export function arrowRows(
  files: readonly ArrowFile[],
): Pick<DataSource, 'rows' | 'files' | 'columns' | 'parts' | 'label'> {
  return {
    rows: files.reduce((sum, { rows }) => sum + rows, 0),
    files: files.map(({ path, bytes, rows }) => ({ path, bytes, rows })),
    columns: (files[0]?.fields ?? []).map((field) => ({ name: field.name, type: typeName(field) })),
    *parts(column) {
      for (const [file, arrow] of files.entries()) yield { file, ...numericColumn(arrow, column) };
    },
    label(column, row) {
      let local = row;
      for (const file of files) {
        if (local < file.rows) return labelAt(file, column, local);
        local -= file.rows;
      }
      throw new OrchestratorError('ERR_DATA_ROW', `There is no row ${row}; the data set has ${row - local}`);
    },
  };
}
