/** `orchestrator dataset`: inspects, verifies and generates data sets. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { loadConfig } from '../../config/load.js';
import type { Config } from '../../config/schema.js';
import { type Check, checkColumns } from '../../data/check.js';
import type { TableColumn } from '../../data/column.js';
import { describeDataset } from '../../data/dataset.js';
import { requirePatches } from '../../data/fit.js';
import { openSource } from '../../data/formats.js';
import { type DatasetReport, inspectDataset } from '../../data/inspect.js';
import { MANIFEST_FILE } from '../../data/manifest.js';
import type { DataSource } from '../../data/source.js';
import { SUMS_FILE, writeSums } from '../../data/sums.js';
import { verifyFiles } from '../../data/verify.js';
import { OrchestratorError, refuse } from '../../errors.js';
import { withHome } from '../../files/home.js';
import { totalBytes } from '../../memory/parts.js';
import { generateShapes, removeShapes, type ShapesOptions, staleReason } from '../../shapes/generate.js';
import { PICTURE_KINDS, type PictureKind } from '../../shapes/kinds.js';
import { alignedRows, fittedRows } from '../../text/columns.js';
import { bytes, bytesOfWhole, counted } from '../../text/quantities.js';
import { positiveInteger, wholeNumber } from '../arguments.js';
import { choiceOption } from '../options.js';
import { pageColumns, printNote, printResult } from '../output.js';
import { countOf, Progress } from '../progress.js';

export function register(program: Command): void {
  const dataset = program.command('dataset').description('inspect, verify and generate data sets');
  dataset
    .command('inspect')
    .description('print rows, columns, shapes, ranges, non-finite counts and a histogram of the latents')
    .argument('<path>', 'folder of a data set')
    .option('--json', 'print JSON')
    .option('--column <name>', 'column of the histogram (default: latent, if there is one)')
    .action(async (path: string, { json, column }: { json?: true; column?: string }) => {
      const progress = new Progress('scanning', countOf('row'));
      const source = openSource(path);
      const report = await inspectDataset(source, column ?? null, (rows) =>
        progress.update(rows, source.rows),
      );
      if (column !== undefined && report.histogram === null) {
        printNote(`note: all values of ${column} are equal, so it has no histogram`);
      }
      printResult(report, json, () => renderReport(report, source.format.title));
    });
  dataset
    .command('verify')
    .description('check the hashes of the files, and search for wrong shapes and non-finite values')
    .argument('[path]', "folder of a data set (default: the configuration's data.path)")
    .option('--config <file>', 'judge what a run with this configuration reads, and warn of the rest')
    .option('--record', `record the hashes of a foreign folder in its ${SUMS_FILE}, for later checks`)
    .option('--json', 'print JSON')
    .action(
      async (
        given: string | undefined,
        { record, config: file, json }: { record?: true; config?: string; json?: true },
      ) => {
        const config =
          file === undefined ? null : loadConfig(file, given === undefined ? [] : [`data.path=${given}`]);
        const path = given ?? config?.data.path;
        if (path === undefined) {
          throw new OrchestratorError('ERR_USAGE', 'expected the folder of a data set, or --config');
        }
        printResult(await verify(openSource(path), record === true, config), json, renderVerified);
      },
    );
  dataset
    .command('convert')
    .description(
      'convert Parquet files, once, to a folder that can be mapped; an interrupted conversion goes on',
    )
    .argument('<source>', 'Parquet file, or the folder with the files of one split')
    .requiredOption('--out <dir>', 'folder to create')
    .addOption(
      new Option('--leave-out <column>', 'column not to keep; repeatable')
        .default([], 'none')
        .argParser((name: string, before: string[]) => [...before, name]),
    )
    .action(convert);
  dataset
    .command('shapes')
    .description(
      'generate the demo data (the shapes world): pictures of one to three objects, with two captions each',
    )
    .requiredOption('--out <dir>', 'folder to create')
    .requiredOption('--count <n>', 'number of pictures', positiveInteger)
    .option('--seed <n>', 'seed of everything random', wholeNumber, 0)
    .addOption(
      choiceOption(
        '--pictures <kind>',
        'scenes = one to three objects; photos = one in the centre, captioned "a photo of a red circle"',
        PICTURE_KINDS,
      ),
    )
    .option(
      '--refresh',
      'keep a folder that holds exactly this data set; replace any other data set of the shapes world',
    )
    .action(shapes);
}

async function convert(
  source: string,
  { out, leaveOut }: { out: string; leaveOut: string[] },
): Promise<void> {
  const shown = new Progress('converting', countOf('row'));
  const progress = (rows: number, total: number) => shown.update(rows, total);
  const { convertParquet } = await import('../../data/convert.js');
  try {
    const { manifest, others } = await convertParquet({
      source: withHome(source),
      out: withHome(out),
      leaveOut,
      progress,
    });
    const columns = manifest.columns.map(({ name, type, shape }) => [name, `${type} ${shape.join(' x ')}`]);
    for (const { name, type } of others) printNote(`warn column "${name}" (${type}) was not kept`);
    process.stdout.write(
      `${out}: ${describeFiles(manifest.rows, manifest.shards)}\n${alignedRows(columns, 'left').join('\n')}\n`,
    );
  } finally {
    shown.end();
  }
}

async function shapes(options: {
  out: string;
  count: number;
  seed: number;
  pictures: PictureKind;
  refresh?: true;
}): Promise<void> {
  const { out, count, pictures: kind } = options;
  const progress = new Progress('generating', countOf('picture'));
  const wanted: ShapesOptions = {
    out,
    kind,
    count,
    seed: BigInt(options.seed),
    onProgress: (rows) => progress.update(rows, count),
  };
  if (options.refresh && existsSync(join(out, MANIFEST_FILE))) {
    const reason = await staleReason(wanted);
    if (reason === null) {
      process.stdout.write(`${out}: up to date\n`);
      return;
    }
    process.stdout.write(
      `${out}: generated by another version or with other options (${reason}), so it is replaced\n`,
    );
    await removeShapes(out);
  }
  const { rows, shards } = await generateShapes(wanted);
  process.stdout.write(`${out}: ${describeFiles(rows, shards)}\n`);
}

/** "48 rows in 3 files, 61.2 MiB" */
function describeFiles(rows: number, files: readonly { bytes: number }[]): string {
  return `${counted(rows, 'row')} in ${counted(files.length, 'file')}, ${bytes(totalBytes(files))}`;
}

/**
 * Throws the problems that a run would meet. Hashes are recorded last, once everything that
 * a run reads is correct.
 */
async function verify(source: DataSource, record: boolean, config: Config | null) {
  const { files, rows } = source;
  const size = totalBytes(files);
  const hashed = await hashing(size, (progress) => verifyFiles(source, progress));
  const scanning = new Progress('scanning', countOf('row'));
  let check: Check;
  try {
    check = await checkColumns(source, config?.data ?? null, (done) => scanning.update(done, rows));
  } finally {
    scanning.end();
  }
  // Without roles nobody knows whether a run reads these columns, and the hashes are of whole files.
  const isOpen = record && !check.hasRoles;
  const open = check.problems.map(({ message }) => `${message} (a run that reads this column ends with it)`);
  const warnings = [...check.warnings, ...(isOpen ? open : [])];
  for (const warning of warnings) printNote(`warn ${warning}`);
  if (!isOpen) refuse(check.problems);
  if (config !== null) requirePatches(describeDataset(config.data), config);
  if (record && !hashed) await hashing(size, (progress) => writeSums(source, progress));
  return {
    path: source.path,
    rows,
    files,
    /** compared = with those that were recorded; absent = there are none to compare with. */
    hashes: hashed ? ('compared' as const) : record ? ('recorded' as const) : ('absent' as const),
    columns: check.judged.map(({ spec, shapes }) => ({ name: spec.role, shape: shapes[0] ?? null })),
    /** Whether data.on_non_finite skips rows. */
    skipsRows: check.skipsRows,
    warnings,
    note: check.hasRoles ? null : shapesNote(check.judged),
  };
}

const HASHES = {
  compared: 'every SHA-256 matches',
  recorded: `hashes recorded in ${SUMS_FILE}`,
  absent: 'no hashes to compare with (--record creates them)',
};

function renderVerified({
  path,
  rows,
  files,
  hashes,
  columns,
  skipsRows,
  note,
}: Awaited<ReturnType<typeof verify>>) {
  const judged = counted(columns.length, 'numeric column');
  const finite = skipsRows ? 'with rows to skip' : 'all finite';
  const said = `${path}: ${describeFiles(rows, files)}; ${HASHES[hashes]}; ${judged}, ${finite}\n`;
  return note === null ? said : `${said}note: ${note}\n`;
}

/**
 * Training takes latents of three dimensions and three text features of two; says which flat lists lack
 * them.
 */
function shapesNote(columns: readonly TableColumn[]): string | null {
  const ofRank = (rank: number) =>
    columns.filter(({ shapes }) => shapes.some(({ length }) => length === rank)).length;
  const keys = [
    ...(ofRank(3) < 1 ? ['data.latent_shape'] : []),
    ...(ofRank(2) < 3 ? ['data.text_shape'] : []),
  ];
  const flat = columns.filter(({ shapes }) => shapes.every(({ length }) => length === 1));
  if (keys.length === 0 || flat.length === 0) return null;
  const names = flat.map(({ spec }) => spec.role).join(', ');
  return `flat lists have no shape (${names}): to train, set ${keys.join(' and ')} in the configuration`;
}

/** Shows the progress of work that reads `size` bytes. */
async function hashing<T>(size: number, work: (progress: (n: number) => void) => Promise<T>): Promise<T> {
  const shown = new Progress('hashing', bytesOfWhole);
  let done = 0;
  try {
    return await work((n) => {
      done += n;
      if (done <= size) shown.update(done, size);
    });
  } finally {
    shown.end();
  }
}

/** Columns of a bar, and of what stands beside it. */
const BAR = { most: 50, beside: 22 };

function renderReport(report: DatasetReport, title: string): string {
  const lines = [`${report.path}: ${describeFiles(report.rows, report.files)} (${title} format)`, ''];
  const header = ['column', 'shape', 'non-finite', 'mean', 'std', 'min', 'max', 'type'];
  const numeric: string[][] = [];
  const others: string[][] = [];
  for (const { name, type, shape, statistics, example, problem } of report.columns) {
    if (!statistics) {
      others.push([name, type, problem ?? `e.g. ${JSON.stringify(clip(example ?? '', 60))}`]);
      continue;
    }
    const { min, max, mean, std, nonFinite, firstNonFiniteRows } = statistics;
    const numbers = [mean, std, min, max].map((x) => x.toPrecision(4));
    const where = nonFinite === 0 ? '' : `, first in row ${firstNonFiniteRows[0]}`;
    const dimensions = shape?.join(' x ') ?? '';
    numeric.push([name, dimensions, `${nonFinite}${where}`, ...numbers, elementType(type)]);
  }
  if (numeric.length > 0) lines.push(...fittedRows([header, ...numeric], pageColumns()), '');
  if (others.length > 0) lines.push(...alignedRows(others, 'left'), '');
  if (report.histogram) {
    const { column, low, high, counts } = report.histogram;
    const step = (high - low) / counts.length;
    const most = Math.max(...counts);
    const room = Math.max(1, Math.min(BAR.most, pageColumns() - BAR.beside));
    lines.push(`histogram of ${column}, linear scale`);
    counts.forEach((n, i) => {
      const bar = '#'.repeat(Math.ceil((room * n) / most));
      lines.push(`${(low + i * step).toFixed(3).padStart(9)}  ${bar.padEnd(room)} ${n}`);
    });
  }
  return `${lines.join('\n').trimEnd()}\n`;
}

/** "float16" of "fixed_size_list[1024] of float16", whose shape has a column of its own. */
function elementType(type: string): string {
  return type.split(' of ').at(-1)!;
}

function clip(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 3)}...` : text;
}
