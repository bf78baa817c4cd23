/** Statistics of columns, computed natively in batches of rows. */
import type { ColumnScan, ColumnSpec, Dataset } from '../native/contract.js';
import { native } from '../native/load.js';
import { datasetSpec, type TableColumn } from './column.js';
import type { DataSource } from './source.js';

/** Values scanned between two reports of progress: some tens of milliseconds. */
const VALUES_PER_SCAN = 2 ** 24;
const HISTOGRAM_BINS = 24;
/** Rows with non-finite values that are listed, of how many there may be. */
const LISTED_ROWS = 64;

/** Statistics of a column's finite values; they are NaN if there are none. The standard deviation is that of the population. */
export type ColumnStatistics = Omit<ColumnScan, 'histogram'>;

/**
 * Scans columns one after the other. Each is returned with its statistics and the mapped data set, which is
 * closed after the last. `progress` receives the number of rows scanned, where all columns together count as
 * one.
 */
export async function* scanColumns(
  source: DataSource,
  columns: readonly TableColumn[],
  progress: ((rows: number) => void) | null,
) {
  const dataset = await native().mapDataset(datasetSpec(source, columns));
  let done = 0;
  try {
    for (const column of columns) {
      const statistics = await scanColumn(dataset, column.spec, source.rows, (rows) => {
        done += rows;
        progress?.(Math.floor(done / columns.length));
      });
      yield { column, statistics, dataset };
    }
  } finally {
    dataset.close();
  }
}

async function scanColumn(
  dataset: Dataset,
  { role, width }: ColumnSpec,
  rows: number,
  progress: (rows: number) => void,
): Promise<ColumnStatistics> {
  const total = { min: Number.NaN, max: Number.NaN, mean: 0, std: 0, nonFinite: 0, nonFiniteRows: 0 };
  const firstNonFiniteRows: number[] = [];
  let count = 0;
  let deviations = 0;
  for (const [from, to] of batches(rows, width)) {
    const scan = await dataset.scan(role, from, to, 0, 1, 0);
    progress(to - from);
    const finite = (to - from) * width - scan.nonFinite;
    total.nonFinite += scan.nonFinite;
    total.nonFiniteRows += scan.nonFiniteRows;
    if (firstNonFiniteRows.length < LISTED_ROWS) firstNonFiniteRows.push(...scan.firstNonFiniteRows);
    if (finite === 0) continue;
    total.min = count === 0 ? scan.min : Math.min(total.min, scan.min);
    total.max = count === 0 ? scan.max : Math.max(total.max, scan.max);
    const delta = scan.mean - total.mean;
    const all = count + finite;
    deviations += scan.std * scan.std * finite + (delta * delta * count * finite) / all;
    total.mean += (delta * finite) / all;
    count = all;
  }
  total.mean = count === 0 ? Number.NaN : total.mean;
  total.std = count === 0 ? Number.NaN : Math.sqrt(deviations / count);
  return { ...total, firstNonFiniteRows: firstNonFiniteRows.slice(0, LISTED_ROWS) };
}

/** The number of a column's values in each of equally wide bins over [low, high]. */
export async function histogramOf(
  dataset: Dataset,
  { role, width }: ColumnSpec,
  rows: number,
  low: number,
  high: number,
) {
  const counts = new Array<number>(HISTOGRAM_BINS).fill(0);
  for (const [from, to] of batches(rows, width)) {
    const { histogram } = await dataset.scan(role, from, to, low, high, HISTOGRAM_BINS);
    for (const [i, n] of histogram.entries()) counts[i]! += n;
  }
  return { low, high, counts };
}

/** Ranges of rows with about VALUES_PER_SCAN values each. */
function* batches(rows: number, width: number): Generator<[from: number, to: number]> {
  const step = Math.max(1, Math.floor(VALUES_PER_SCAN / width));
  for (let from = 0; from < rows; from += step) yield [from, Math.min(rows, from + step)];
}
