/** Reports the contents of a data set: columns, shapes, statistics. Needs no configuration. */
import { OrchestratorError } from '../errors.js';
import { joinColumn, type TableColumn } from './column.js';
import type { DataFile, DataSource } from './source.js';
import { type ColumnStatistics, type Histogram, histogramOf, scanColumns } from './statistics.js';

export interface ColumnReport {
  name: string;
  /** The type in the format's terms. */
  type: string;
  /** Shape of a row; null for columns that are not lists of numbers. */
  shape: readonly number[] | null;
  statistics: ColumnStatistics | null;
  /** Value of the first row, for strings and integers. */
  example: string | null;
  /** Why training cannot read the column, or null. */
  problem: string | null;
}

export interface DatasetReport {
  path: string;
  /** Name of the format. */
  format: string;
  rows: number;
  files: DataFile[];
  columns: ColumnReport[];
  /** Histogram of `histogramColumn`; null if that is not a usable column. */
  histogram: Histogram | null;
}

const HISTOGRAM_BINS = 24;

/** The numeric columns of a source, and for the other columns why they are not numeric. */
export function numericColumns(source: DataSource): {
  columns: TableColumn[];
  problems: Map<string, OrchestratorError>;
} {
  const columns: TableColumn[] = [];
  const problems = new Map<string, OrchestratorError>();
  for (const { name } of source.columns) {
    const column = unlessRefused(() => joinColumn(source, name, name));
    if (column instanceof OrchestratorError) problems.set(name, column);
    else columns.push(column);
  }
  return { columns, problems };
}

/** Scans every numeric column. `progress` receives the number of rows scanned and the total. */
export async function inspectDataset(
  source: DataSource,
  histogramColumn: string,
  progress: ((done: number, total: number) => void) | null,
): Promise<DatasetReport> {
  const { path, format, rows, files } = source;
  const { columns, problems } = numericColumns(source);
  const numeric = new Map<string, Pick<ColumnReport, 'shape' | 'statistics'>>();
  let histogram: Histogram | null = null;
  for await (const { column, statistics, dataset } of scanColumns(source, columns, progress)) {
    const name = column.spec.role;
    numeric.set(name, { shape: column.shapes[0]!, statistics });
    const { min: low, max: high } = statistics;
    if (name === histogramColumn && high > low) {
      histogram = await histogramOf(dataset, column.spec, rows, { low, high }, HISTOGRAM_BINS);
    }
  }
  const reports = source.columns.map(({ name, type }): ColumnReport => {
    const report = { name, type, shape: null, statistics: null, example: null, problem: null };
    const found = numeric.get(name);
    if (found) return { ...report, ...found };
    const example = unlessRefused(() => source.label(name, 0));
    return typeof example === 'string'
      ? { ...report, example }
      : { ...report, problem: problems.get(name)!.message };
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
