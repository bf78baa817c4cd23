/** `orchestrator dataset`: looking at data sets, checking them, and making one. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { type DatasetReport, inspectDataset, numericColumns } from '../../data/inspect.js';
import { MANIFEST_FILE } from '../../data/manifest.js';
import { type DataSource, openSource } from '../../data/source.js';
import { scanColumn } from '../../data/statistics.js';
import { SUMS_FILE, writeSums } from '../../data/sums.js';
import { verifyFiles } from '../../data/verify.js';
import { OrchestratorError } from '../../errors.js';
import { native } from '../../native/load.js';
import { generateShapes, removeShapes, type ShapesOptions, staleReason } from '../../shapes/generate.js';
import { wholeNumber } from '../arguments.js';
import { Progress } from '../progress.js';

export function register(program: Command): void {
  const dataset = program.command('dataset').description('look at, check and make data sets');
  dataset
    .command('inspect')
    .description('print rows, columns, shapes, ranges, non-finite counts and a histogram of the latents')
    .argument('<path>', 'folder of a data set')
    .option('--json', 'print JSON')
    .option('--column <name>', 'column of the histogram', 'latent')
    .action(async (path: string, options: { json?: true; column: string }) => {
      const progress = new Progress('scanning', 'rows');
      const source = openSource(path);
      const report = await inspectDataset(source, options.column, (done, total) =>
        progress.update(done, total),
      );
      process.stdout.write(
        options.json ? `${JSON.stringify(report, null, 2)}\n` : renderReport(report, options.column),
      );
    });
  dataset
    .command('verify')
    .description('compare the files with their hashes, and look for wrong shapes and non-finite values')
    .argument('<path>', 'folder of a data set')
    .option('--record', `record the hashes of a foreign folder in its ${SUMS_FILE}, for later checks`)
    .action(async (path: string, { record }: { record?: true }) => {
      process.stdout.write(await verify(openSource(path), record === true));
    });
  dataset
    .command('shapes')
    .description(
      'make a data set of the shapes world: pictures of one to three objects, with two captions each',
    )
    .requiredOption('--out <dir>', 'folder to make')
    .requiredOption('--count <n>', 'number of pictures', wholeNumber)
    .option('--seed <n>', 'everything random follows from it', wholeNumber, 0)
    .option(
      '--refresh',
      'keep a folder that holds just this data set; make another one of the shapes world anew',
    )
    .action(shapes);
}

async function shapes(options: { out: string; count: number; seed: number; refresh?: true }): Promise<void> {
  const { out, count } = options;
  if (count < 1) throw new OrchestratorError('ERR_USAGE', '--count: expected at least 1, received 0');
  const progress = new Progress('generating', 'pictures');
  const wanted: ShapesOptions = {
    out,
    count,
    seed: BigInt(options.seed),
    encoders: null,
    onProgress: (rows) => progress.update(rows, count),
  };
  if (options.refresh && existsSync(join(out, MANIFEST_FILE))) {
    const reason = staleReason(wanted);
    if (reason === null) {
      process.stdout.write(`${out}: there already\n`);
      return;
    }
    process.stdout.write(
      `${out}: made by another version or with other numbers (${reason}), so it is made anew\n`,
    );
    await removeShapes(out);
  }
  const { rows, shards } = await generateShapes(wanted);
  const bytes = shards.reduce((sum, shard) => sum + shard.bytes, 0);
  process.stdout.write(`${out}: ${rows} rows in ${shards.length} files, ${formatBytes(bytes)}\n`);
}

/** Throws at the first thing that is wrong; returns what was checked. Hashes are recorded last, of what is right. */
async function verify(source: DataSource, record: boolean): Promise<string> {
  const { files, rows } = source;
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const hashed = await hashing(bytes, (progress) => verifyFiles(source, progress));
  const { columns, problems } = numericColumns(source);
  // A column that is no list of numbers is a label; every other problem is one.
  for (const problem of problems.values()) if (problem.code !== 'ERR_DATA_TYPE') throw problem;
  const specs = columns.map(({ spec }) => spec);
  const dataset = await native().openDataset({
    files: files.map(({ path, bytes }) => ({ path, bytes })),
    rows,
    columns: specs,
  });
  const scanning = new Progress('scanning', 'rows');
  try {
    let done = 0;
    for (const spec of specs) {
      const { nonFinite, firstNonFiniteRow } = await scanColumn(dataset, spec, rows, (n) => {
        done += n;
        scanning.update(done, rows * specs.length);
      });
      if (nonFinite === 0) continue;
      const { file, row } = placeOf(source, firstNonFiniteRow);
      throw new OrchestratorError(
        'ERR_DATA_NON_FINITE',
        `${file}, column "${spec.role}", row ${firstNonFiniteRow} (row ${row} of the file): the first of ${nonFinite} values that are not finite`,
      );
    }
  } finally {
    scanning.end();
    dataset.close();
  }
  if (record && !hashed) await hashing(bytes, (progress) => writeSums(source, progress));
  const hashes = hashed
    ? 'every SHA-256 matches'
    : record
      ? `hashes recorded in ${SUMS_FILE}`
      : 'no hashes to compare with (--record makes them)';
  return `${source.path}: ${rows} rows in ${files.length} files, ${formatBytes(bytes)}; ${hashes}; ${specs.length} numeric columns, all finite\n`;
}

/** Shows the progress of work that reads `bytes`. */
async function hashing<T>(bytes: number, work: (progress: (n: number) => void) => Promise<T>): Promise<T> {
  const shown = new Progress('hashing', 'bytes');
  let done = 0;
  try {
    return await work((n) => {
      done += n;
      if (done <= bytes) shown.update(done, bytes);
    });
  } finally {
    shown.end();
  }
}

function placeOf(source: DataSource, row: number): { file: string; row: number } {
  let local = row;
  for (const { path, rows } of source.files) {
    if (local < rows) return { file: path, row: local };
    local -= rows;
  }
  throw new OrchestratorError('ERR_INTERNAL', `row ${row} of ${source.rows}`);
}

function renderReport(report: DatasetReport, histogramColumn: string): string {
  const bytes = report.files.reduce((sum, file) => sum + file.bytes, 0);
  const format = report.format === 'huggingface' ? 'Hugging Face' : 'orchestrator';
  const lines = [
    `${report.path}: ${report.rows} rows in ${report.files.length} files, ${formatBytes(bytes)} (${format} format)`,
    '',
  ];
  const header = ['column', 'type', 'shape', 'min', 'max', 'mean', 'std', 'non-finite'];
  const cells = report.columns.map(({ name, type, shape, statistics, example, problem }) => {
    const start = [name, type, shape?.join(' x ') ?? ''];
    if (!statistics) return [...start, problem ?? `e.g. ${JSON.stringify(clip(example ?? '', 60))}`];
    const { min, max, mean, std, nonFinite, firstNonFiniteRow } = statistics;
    const numbers = [min, max, mean, std].map((x) => x.toPrecision(4));
    return [...start, ...numbers, nonFinite === 0 ? '0' : `${nonFinite}, first in row ${firstNonFiniteRow}`];
  });
  lines.push(...align([header, ...cells]));
  if (report.histogram) {
    const { low, high, counts } = report.histogram;
    const step = (high - low) / counts.length;
    const most = Math.max(...counts);
    lines.push('', `histogram of ${histogramColumn}, linear scale`);
    counts.forEach((n, i) => {
      const bar = '#'.repeat(Math.ceil((50 * n) / most));
      lines.push(`${(low + i * step).toFixed(3).padStart(9)}  ${bar.padEnd(50)} ${n}`);
    });
  }
  return `${lines.join('\n')}\n`;
}

/** Pads all but the last cell of each row; a row with fewer cells lets its last one run on. */
function align(rows: string[][]): string[] {
  const widths = rows[0]!.map((_, i) =>
    Math.max(...rows.map((row) => (i < row.length - 1 ? row[i]!.length : 0))),
  );
  return rows.map((row) =>
    row
      .map((cell, i) => (i < row.length - 1 ? cell.padEnd(widths[i]!) : cell))
      .join('  ')
      .trimEnd(),
  );
}

function clip(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 3)}...` : text;
}

function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
