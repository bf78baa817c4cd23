/** Reports the contents of a data set: columns, shapes, statistics. Needs no configuration. */
import { OrchestratorError } from '../errors.js';
import { joinColumn, type TableColumn } from './column.js';
import type { DataSource } from './source.js';
import { type ColumnStatistics, histogramOf, scanColumns } from './statistics.js';

export type DatasetReport = Awaited<ReturnType<typeof inspectDataset>>;

/** The numeric columns of a source, and for the other columns why they are not numeric. */
export function numericColumns(source: DataSource) {
  const columns: TableColumn[] = [];
  const problems = new Map<string, OrchestratorError>();
  for (const { name } of source.columns) {
    const column = unlessRefused(() => joinColumn(source, name, name));
    if (column instanceof OrchestratorError) problems.set(name, column);
    else columns.push(column);
  }
  return { columns, problems };
}

/**
 * Scans every numeric column. The histogram is that of `histogramColumn`, which must be numeric (ERR_DATA_*);
 * with null, that of "latent" if it is. `progress` receives the number of rows scanned.
 */
export async function inspectDataset(
  source: DataSource,
  histogramColumn: string | null,
  progress: ((rows: number) => void) | null,
) {
  const { path, format, rows, files } = source;
  if (histogramColumn !== null) joinColumn(source, histogramColumn, histogramColumn);
  const shown = histogramColumn ?? 'latent';
  const { columns, problems } = numericColumns(source);
  const numeric = new Map<string, { shape: readonly number[]; statistics: ColumnStatistics }>();
  let histogram: ({ column: string } & Awaited<ReturnType<typeof histogramOf>>) | null = null;
  for await (const { column, statistics, dataset } of scanColumns(source, columns, progress)) {
    const { spec, shapes } = column;
    numeric.set(spec.role, { shape: shapes[0]!, statistics });
    const { min, max } = statistics;
    if (spec.role === shown && max > min) {
      histogram = { column: shown, ...(await histogramOf(dataset, spec, rows, min, max)) };
    }
  }
  const reports = source.columns.map(({ name, type }) => {
    const found = numeric.get(name);
    const label = found ? null : unlessRefused(() => source.label(name, 0));
    return {
      name,
      /** The type in the format's terms. */
      type,
      /** Shape of a row; null for columns that are not lists of numbers. */
      shape: found?.shape ?? null,
      statistics: found?.statistics ?? null,
      /** Value of the first row, for strings and integers. */
      example: typeof label === 'string' ? label : null,
      /** Why training cannot read the column, or null. */
      problem: label instanceof OrchestratorError ? problems.get(name)!.message : null,
    };
  });
  return { path, format: format.name, rows, files, columns: reports, histogram };
}

/** What `read` returns, or the error of this program that it throws. */
function unlessRefused<T>(read: () => T): T | OrchestratorError {
  try {
    return read();
  } catch (error) {
    if (error instanceof OrchestratorError) return error;
    throw error;
  }
}
