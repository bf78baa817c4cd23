/** Statistics of columns, computed natively in batches of rows. */
import type { ColumnScan, ColumnSpec, Dataset } from '../native/contract.js';
import { native } from '../native/load.js';
import { datasetSpec, type TableColumn } from './column.js';
import type { DataSource } from './source.js';

/** Values scanned between two reports of progress: some tens of milliseconds. */
const VALUES_PER_SCAN = 2 ** 24;

export interface Histogram {
  low: number;
  high: number;
  /** Number of values in each of equally wide bins. */
  counts: number[];
}

export interface ColumnStatistics {
  /** Smallest finite value; NaN if there is none, as for the next three. */
  min: number;
  max: number;
  mean: number;
  /** Standard deviation of the population. */
  std: number;
  nonFinite: number;
  /** First row with a non-finite value, or -1. */
  firstNonFiniteRow: number;
}

/**
 * Scans columns one after the other. Each is returned with its statistics and the mapped data set, which is
 * closed after the last. `progress` receives the number of rows scanned, of all columns, and the total.
 */
export async function* scanColumns(
  source: DataSource,
  columns: readonly TableColumn[],
  progress: ((done: number, total: number) => void) | null,
): AsyncGenerator<{ column: TableColumn; statistics: ColumnStatistics; dataset: Dataset }> {
  const dataset = await native().mapDataset(datasetSpec(source, columns));
  let done = 0;
  try {
    for (const column of columns) {
      const statistics = await scanColumn(dataset, column.spec, source.rows, (rows) => {
        done += rows;
        progress?.(done, source.rows * columns.length);
      });
      yield { column, statistics, dataset };
    }
  } finally {
    dataset.close();
  }
}

async function scanColumn(
  dataset: Dataset,
  column: ColumnSpec,
  rows: number,
  progress: (rows: number) => void,
): Promise<ColumnStatistics> {
  const total = { min: Number.NaN, max: Number.NaN, mean: 0, std: 0, nonFinite: 0, firstNonFiniteRow: -1 };
  let count = 0;
  let deviations = 0;
  for await (const { scan, values } of scanBatches(dataset, column, rows, 0, 1, 0, progress)) {
    const finite = values - scan.nonFinite;
    total.nonFinite += scan.nonFinite;
    if (total.firstNonFiniteRow < 0) total.firstNonFiniteRow = scan.firstNonFiniteRow;
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
  return total;
}

/** The histogram of a column's values in `bins` equal bins over [low, high]. */
export async function histogramOf(
  dataset: Dataset,
  column: ColumnSpec,
  rows: number,
  range: { low: number; high: number },
  bins: number,
): Promise<Histogram> {
  const counts = new Array<number>(bins).fill(0);
  for await (const { scan } of scanBatches(dataset, column, rows, range.low, range.high, bins, () => {})) {
    scan.histogram.forEach((n, i) => {
      counts[i]! += n;
    });
  }
  return { ...range, counts };
}

async function* scanBatches(
  dataset: Dataset,
  column: ColumnSpec,
  rows: number,
  low: number,
  high: number,
  bins: number,
  progress: (rows: number) => void,
): AsyncGenerator<{ scan: ColumnScan; values: number }> {
  const step = Math.max(1, Math.floor(VALUES_PER_SCAN / column.width));
  for (let from = 0; from < rows; from += step) {
    const to = Math.min(rows, from + step);
    yield {
      scan: await dataset.scan(column.role, from, to, low, high, bins),
      values: (to - from) * column.width,
    };
    progress(to - from);
  }
}
