/** Reports the contents of a data set: columns, shapes, statistics. Needs no configuration. */
import { OrchestratorError } from '../errors.js';
import { LabelColumn } from '../formats/arrow/columns.js';
import { typeName } from '../formats/arrow/schema.js';
import type { ColumnSpec } from '../native/contract.js';
import { native } from '../native/load.js';
import { joinColumn, type TableColumn } from './column.js';
import type { DataSource } from './source.js';
import { type ColumnStatistics, type Histogram, histogramOf, scanColumn } from './statistics.js';

export interface ColumnReport {
  name: string;
  /** The type in Arrow's terms. */
  type: string;
  /** Shape of a row; null for columns that are not lists of numbers. */
  shape: number[] | null;
  statistics: ColumnStatistics | null;
  /** Value of the first row, for strings and integers. */
  example: string | null;
  /** Why training cannot read the column, or null. */
  problem: string | null;
}

export interface DatasetReport {
  path: string;
  format: DataSource['format'];
  rows: number;
  files: { path: string; bytes: number; rows: number }[];
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
  for (const { name } of source.files[0]!.fields) {
    try {
      columns.push(joinColumn(source, name, name, null, null));
    } catch (error) {
      if (!(error instanceof OrchestratorError)) throw error;
      problems.set(name, error);
    }
  }
  return { columns, problems };
}

/** Scans every numeric column. `progress` receives the number of rows scanned and the total. */
export async function inspectDataset(
  source: DataSource,
  histogramColumn: string,
  progress: ((done: number, total: number) => void) | null,
): Promise<DatasetReport> {
  const { columns, problems } = numericColumns(source);
  const specs: ColumnSpec[] = columns.map(({ spec }) => spec);
  const files = source.files.map(({ path, bytes, rows }) => ({ path, bytes, rows }));
  const dataset = await native().openDataset({ files, rows: source.rows, columns: specs });
  try {
    let done = 0;
    const reports: ColumnReport[] = [];
    let histogram: Histogram | null = null;
    for (const field of source.files[0]!.fields) {
      const { name } = field;
      const report: ColumnReport = {
        name,
        type: typeName(field),
        shape: null,
        statistics: null,
        example: null,
        problem: null,
      };
      reports.push(report);
      const column = columns.find(({ spec }) => spec.role === name);
      if (!column) {
        report.example = exampleOf(source, name);
        if (report.example === null) report.problem = problems.get(name)!.message;
        continue;
      }
      report.shape = column.shape;
      report.statistics = await scanColumn(dataset, column.spec, source.rows, (rows) => {
        done += rows;
        progress?.(done, source.rows * columns.length);
      });
      const { min, max } = report.statistics;
      if (name === histogramColumn && max > min) {
        const range = { low: min, high: max };
        histogram = await histogramOf(dataset, column.spec, source.rows, range, HISTOGRAM_BINS);
      }
    }
    const { path, format, rows } = source;
    return { path, format, rows, files, columns: reports, histogram };
  } finally {
    dataset.close();
  }
}

/** The first value of a label column, or null for other columns. */
function exampleOf(source: DataSource, name: string): string | null {
  const file = source.files.find(({ rows }) => rows > 0)!;
  try {
    return new LabelColumn(file, name).read([0])[0]!;
  } catch (error) {
    if (error instanceof OrchestratorError) return null;
    throw error;
  }
}
