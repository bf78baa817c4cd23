/** `orchestrator compare`: what differs between runs, and how they do. */
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { keyPaths } from '../../config/describe.js';
import type { Config } from '../../config/schema.js';
import { OrchestratorError } from '../../errors.js';
import { type Panel, writeChart } from '../../plots/chart.js';
import { recordedCurves, recordedRun, recordedUpTo } from '../../run-folder/recorded-run.js';
import { WINDOW } from '../../telemetry/run-progress.js';
import { alignedRows } from '../../text/columns.js';
import { eta, quantity, rough } from '../../text/quantities.js';
import { chartPath } from '../arguments.js';
import { knownQuantity, pageColumns, printResult } from '../output.js';
import { RUN, runFolder } from '../run-folder.js';

/** Points of a curve in the picture; an even number. */
const POINTS = 400;

export function register(program: Command): void {
  program
    .command('compare')
    .description('print the differences of two or more runs: configuration first, then losses and speed')
    .argument('<runs...>', `two or more runs, each a ${RUN}`)
    .option('--plot <file>', 'also draw their losses and validations: .svg, .png, .jpg or .webp', chartPath)
    .option('--json', 'print JSON')
    .action(async (runs: string[], { plot, json }: { plot?: string; json?: true }) => {
      if (runs.length < 2) {
        throw new OrchestratorError('ERR_USAGE', `expected two or more runs, received ${runs[0]} alone`);
      }
      const folders = runs.map(runFolder);
      const labels = labelsOf(folders);
      const found = await Promise.all(folders.map(recordedRun));
      if (plot !== undefined) {
        const curves = folders.map((runDir, i) => ({ label: labels[i]!, ...recordedCurves(runDir, POINTS) }));
        await writeChart(plot, panelsOf(curves));
      }
      const step = Math.min(...found.map(({ lastLoss }) => lastLoss));
      const result = {
        differences: differences(found.map(({ config }) => config)),
        common_step: step,
        runs: found.map(({ view }, i) => {
          const { loss, validation } = recordedUpTo(folders[i]!, step, view.validation !== null);
          return { ...view, mean_loss_at_common_step: loss, validation_at_common_step: validation };
        }),
      };
      printResult(result, json, () => render(result, labels));
    });
}

/** The names of the folders; their paths where two have the same name. */
function labelsOf(folders: readonly string[]): string[] {
  const names = folders.map((folder) => basename(resolve(folder)));
  return new Set(names).size === names.length ? names : [...folders];
}

/** The keys whose values are not the same in all configurations, with the value in each. */
function differences(configs: readonly Config[]): Record<string, unknown[]> {
  const valueAt = (config: Config, path: readonly string[]) =>
    path.reduce<unknown>(
      (value, key) => (value as Record<string, unknown> | null | undefined)?.[key],
      config,
    );
  const rows = keyPaths().map(
    (path) => [path.join('.'), configs.map((config) => valueAt(config, path) ?? null)] as const,
  );
  const differ = rows.filter(([, values]) => new Set(values.map((value) => JSON.stringify(value))).size > 1);
  // A mapping differs where one of its keys does, which has its own row.
  return Object.fromEntries(differ.filter(([key]) => !differ.some(([other]) => other.startsWith(`${key}.`))));
}

interface Comparison {
  differences: Record<string, unknown[]>;
  common_step: number;
  runs: (Awaited<ReturnType<typeof recordedRun>>['view'] & {
    mean_loss_at_common_step: number | null;
    validation_at_common_step: { loss: number } | null;
  })[];
}

function render(
  { differences: differ, common_step: step, runs }: Comparison,
  labels: readonly string[],
): string {
  const row = (name: string, value: (run: Comparison['runs'][number]) => string) => [
    name,
    ...runs.map(value),
  ];
  const configuration = Object.entries(differ).map(([key, values]) => [
    key,
    ...values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))),
  ]);
  const same = configuration.length === 0 ? [['no key differs', ...runs.map(() => '')]] : configuration;
  const numbers = [
    row('state', ({ phase }) => phase),
    row('step', (run) => `${run.step}/${run.steps}`),
    row(`loss at step ${step}`, (run) => knownQuantity(run.mean_loss_at_common_step)),
    row(`validation up to step ${step}`, (run) => knownQuantity(run.validation_at_common_step?.loss)),
    row('loss', (run) => knownQuantity(run.mean_loss)),
    row('best validation', ({ validation }) =>
      validation?.best ? `${quantity(validation.best.loss)} at ${validation.best.step}` : '-',
    ),
    row('img/s', (run) => (run.samples_per_second ? rough(run.samples_per_second) : '-')),
    row('trained for', (run) => eta(run.elapsed_seconds)),
    row('workers', (run) => String(run.workers)),
  ];
  const lines = [...table('configuration', labels, same), '', ...table('numbers', labels, numbers)];
  return `${lines.join('\n')}\n(losses: mean of the last ${WINDOW} steps)\n`;
}

/**
 * One line for each name, with a column for each run. Where the terminal is too narrow for the values of a name, they
 * are below it, one in a line.
 */
function table(title: string, labels: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const [width, names] = [
    process.stdout.isTTY ? pageColumns() : Infinity,
    [title, ...rows.map(([name]) => name!)],
  ];
  const share = (width - Math.max(...names.map(({ length }) => length))) / labels.length - 2;
  const fits = ([, ...values]: readonly string[]) => values.every(({ length }) => length <= share);
  const all = [[title, ...labels], ...rows];
  const beside = alignedRows(all.filter(fits), 'left');
  return all.flatMap((row) => {
    if (fits(row)) return [beside.shift()!];
    if (row === all[0]) return [title];
    const values = labels.map((label, i) => [`  ${label}`, row[i + 1]!]);
    return [row[0]!, ...alignedRows(values, 'left')];
  });
}

function panelsOf(runs: readonly ({ label: string } & ReturnType<typeof recordedCurves>)[]): Panel[] {
  const panel = (title: string, curve: 'losses' | 'validations'): Panel => ({
    title,
    xLabel: 'step',
    logarithmic: false,
    series: runs.map((run) => ({
      label: run.label,
      points: run[curve].map(({ step, loss }) => ({ x: step, y: loss })),
    })),
  });
  return [panel('training loss', 'losses'), panel('validation loss', 'validations')].filter(({ series }) =>
    series.some(({ points }) => points.length > 0),
  );
}
