/** `orchestrator objective`: what the formulations of the SD3 paper mean, in numbers. */
import type { Command } from 'commander';
import { formulationOf } from '../../objective/names.js';
import { Objective } from '../../objective/objective.js';
import { GRID_KINDS, type GridKind } from '../../objective/paths.js';
import { type ShownLevel, type ShownRow, shownGrid, shownRow } from '../../objective/shown.js';
import { STUDY } from '../../objective/study.js';
import { type Panel, writeChart } from '../../plots/chart.js';
import { alignedRows, screenRows } from '../../text/columns.js';
import { chartPath, positive, positiveInteger, times } from '../arguments.js';
import { choiceOption } from '../options.js';
import { printResult, screenColumns } from '../output.js';

interface Options {
  t?: number[];
  shift: number;
  steps?: number;
  schedule: GridKind;
  json?: true;
  plot?: string;
}

interface Shown {
  name: string;
  shift: number;
  rows: ShownRow[];
  /** The levels of sampling, from noise to data; null unless --steps asks for them. */
  grid: ShownLevel[] | null;
}

export function register(program: Command): void {
  const objective = program
    .command('objective')
    .description('what the formulations mean: path, target, weighting and density of t');
  objective
    .command('list')
    .description("print the 61 formulations of the paper's study, with the paper's names")
    .option('--json', 'print JSON')
    .action((options: { json?: true }) =>
      printResult(STUDY, options.json, (study) => {
        const rows = study.map(({ name, label }) => [name, label]);
        return `${alignedRows([['name', 'in the paper'], ...rows], 'left').join('\n')}\n`;
      }),
    );
  objective
    .command('show')
    .description('print the numbers of a formulation at each t')
    .argument('<name>', 'a formulation: rf, rf/lognorm(0,1), edm(-1.2,1.2), v/cos, ...')
    .option('--t <list>', 'times to show (default: from 0.001 to 0.999; in tables all)', times)
    .option('--shift <alpha>', 'resolution shift', positive, 1)
    .option('--steps <n>', 'also the levels of a sampling run of so many steps', positiveInteger)
    .addOption(choiceOption('--schedule <kind>', 'which levels --steps shows, as in `sample`', GRID_KINDS))
    .option('--json', 'print JSON, with every t')
    .option('--plot <file>', 'also draw the numbers over t: .svg, .png, .jpg or .webp', chartPath)
    .action(show);
}

/** From 0.001 to 0.999; the same times are the middle of a table's levels, and its last one is added. */
const ALL_TIMES = Array.from({ length: 999 }, (_, i) => (i + 1) / 1000);
const TABLE_TIMES = Array.from({ length: 1000 }, (_, i) => (i + 0.5) / 1000);

async function show(name: string, options: Options): Promise<void> {
  const objective = new Objective(formulationOf(name, 'objective show'), options.shift);
  const inTable = objective.formulation.path.logSnrDerivative(0.5) === null;
  const rows = (options.t ?? (inTable ? TABLE_TIMES : ALL_TIMES)).map((t) => shownRow(objective, t));
  const grid = options.steps === undefined ? null : shownGrid(objective, options.schedule, options.steps);
  const shown: Shown = { name: objective.formulation.name, shift: options.shift, rows, grid };
  if (options.plot !== undefined) await writeChart(options.plot, panelsOf(shown));
  printResult(shown, options.json, (result) => render(result, options.t === undefined));
}

/** How many rows a page shows unless the user asks for certain ones. */
const PAGE_ROWS = 11;

function render({ name, shift, rows, grid }: Shown, shorten: boolean): string {
  const number = (value: number | null) => (value === null ? '-' : Number(value.toPrecision(5)).toString());
  const pair = ({ x0, eps }: ShownRow['target']) =>
    `${number(x0)} x0 + ${number(eps)} eps`.replace('+ -', '- ');
  const few = shorten
    ? Array.from(
        { length: PAGE_ROWS },
        (_, i) => rows[Math.round((i * (rows.length - 1)) / (PAGE_ROWS - 1))]!,
      )
    : rows;
  const table = [
    ['t', 'z', 'log-SNR', 'derivative', 'density', 'w', 'input', 'target', 'weight', 'timestep', 'effective'],
    ...few.map((row) => [
      number(row.t),
      pair({ x0: row.a, eps: row.b }),
      number(row.log_snr),
      number(row.log_snr_derivative),
      number(row.density),
      number(row.w),
      pair(row.input),
      pair(row.target),
      number(row.loss_weight),
      number(row.timestep),
      number(row.effective_weight),
    ]),
  ];
  const lines = [`${name}, shift ${shift}`, ...screenRows(table, screenColumns())];
  if (grid !== null) {
    const levels = grid.map((level, i) => [
      String(i),
      number(level.sigma),
      number(level.log_snr),
      number(level.timestep),
      pair(level.input),
    ]);
    const heading = ['step', 'sigma', 'log-SNR', 'timestep', 'input'];
    lines.push('', 'sampling, from noise to data', ...screenRows([heading, ...levels], screenColumns()));
  }
  return `${lines.join('\n')}\n`;
}

function panelsOf({ name, rows }: Shown): Panel[] {
  const panel = (
    title: string,
    key: 'density' | 'log_snr' | 'w' | 'effective_weight',
    logarithmic: boolean,
  ) => ({
    title,
    xLabel: 't',
    logarithmic,
    series: [{ label: name, points: rows.map((row) => ({ x: row.t, y: row[key] })) }],
  });
  const panels = [
    panel(`${name}: log-SNR`, 'log_snr', false),
    panel('density of t', 'density', false),
    panel('w', 'w', true),
    panel('effective weight of the noise error', 'effective_weight', true),
  ];
  // In tables w does not exist.
  return panels.filter(({ series }) => series[0]!.points.some(({ y }) => y !== null));
}
