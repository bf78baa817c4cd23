/** `orchestrator runs`: a table of all runs of a folder. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { OrchestratorError } from '../../errors.js';
import { type RecordedRun, recordedRun } from '../../run-folder/recorded-run.js';
import { CONFIG } from '../../run-folder/run-dir.js';
import { WINDOW } from '../../telemetry/run-progress.js';
import { screenRows } from '../../text/columns.js';
import { allPrintable } from '../../text/printable.js';
import { eta, rough } from '../../text/quantities.js';
import { knownQuantity, printResult, screenColumns } from '../output.js';

export function register(program: Command): void {
  program
    .command('runs')
    .description('print a table of all runs of a folder, the latest first')
    .argument('[dir]', 'folder with the folders of runs', 'runs')
    .option('--json', 'print JSON')
    .action(async (dir: string, { json }: { json?: true }) => {
      if (!existsSync(dir) || !statSync(dir).isDirectory()) {
        throw new OrchestratorError(
          'ERR_RUN_DIR',
          `There is no folder ${dir}`,
          'Name the folder that holds run folders',
        );
      }
      const found: Row[] = [];
      const names = readdirSync(dir).filter((name) => existsSync(join(dir, name, CONFIG)));
      for (const name of names) found.push(await rowOf(join(dir, name)));
      found.sort((a, b) => (b.last_written_unix_seconds ?? 0) - (a.last_written_unix_seconds ?? 0));
      printResult(allPrintable(found), json, (rows) => render(dir, rows));
    });
}

type Row = { run_dir: string; last_written_unix_seconds: number | null; problem: string | null } & Partial<
  RecordedRun['view']
>;

async function rowOf(runDir: string): Promise<Row> {
  try {
    const { view, lastWritten } = await recordedRun(runDir);
    return { ...view, last_written_unix_seconds: lastWritten, problem: null };
  } catch (error) {
    if (!(error instanceof OrchestratorError)) throw error;
    return { run_dir: runDir, last_written_unix_seconds: null, problem: `${error.code}: ${error.message}` };
  }
}

function render(dir: string, rows: readonly Row[]): string {
  if (rows.length === 0) return `no runs in ${dir}\n`;
  const now = Date.now() / 1000;
  const lines = rows.map((row) => [
    row.run_dir,
    row.phase ?? 'UNREADABLE',
    row.step === undefined ? '-' : `${row.step}/${row.steps}`,
    row.last_written_unix_seconds === null
      ? '-'
      : `${eta(Math.max(0, now - row.last_written_unix_seconds))} ago`,
    knownQuantity(row.mean_loss),
    knownQuantity(row.validation?.best?.loss),
    row.checkpoint ? String(row.checkpoint.step) : '-',
    row.samples_per_second ? rough(row.samples_per_second) : '-',
  ]);
  const heads = ['run', 'state', 'step', 'last', 'mean loss', 'best validation', 'checkpoint', 'img/s'];
  const problems = rows.flatMap(({ problem }) => problem ?? []);
  // Which runs there are is printed on any terminal.
  const width = Math.max(screenColumns(), ...rows.map((row) => row.run_dir.length));
  const legend = `(mean loss: of the last ${WINDOW} steps)`;
  return `${[...screenRows([heads, ...lines], width), legend, ...problems].join('\n')}\n`;
}
