/**
 * The page of `launch --dry-run`: arithmetic, ranks, memory and commands of a run, without starting anything.
 */
import { type Config, slotCount } from '../config/schema.js';
import { describeDevice } from '../native/cuda.js';
import { native } from '../native/load.js';
import { assignSlots, describeSlots } from '../step/assignment.js';
import { bytes, flopCount } from '../text/quantities.js';
import {
  coordinatorCommand,
  ENVIRONMENT,
  type LaunchOptions,
  shellText,
  workerCommand,
  workerEnvironment,
  workersOf,
} from './commands.js';
import type { Preflight } from './preflight.js';

/**
 * The page as text. A run may be planned on another machine, so neither the data set (if the configuration
 * has its shapes) nor a GPU is needed.
 */
export function renderDryRun(options: LaunchOptions, config: Config, found: Preflight): string {
  const { figures, rows } = found;
  const host = native().host();
  const slots = slotCount(config);
  const { batch, schedule } = config;
  const ranges = assignSlots(slots, workersOf(options));
  const samples = schedule.steps * batch.global;
  const epochs =
    rows === null ? '' : ` = ${(samples / (rows - config.data.validation_rows)).toFixed(2)} epochs`;
  const threads = figures.spec.threads === 1 ? '1 thread' : `${figures.spec.threads} threads`;
  const lines = [
    `run      ${config.name} in ${options.runDir}, resume ${options.resume}`,
    `machine  ${host.processors} processors, ${host.isa}`,
    `data     ${describeData(config, found)}`,
    `model    ${(figures.parameters / 1e6).toFixed(2)} M parameters, ${figures.precision}`,
    `batch    ${batch.global} samples = ${slots} slots x ${batch.micro}`,
    `steps    ${schedule.steps} = ${samples} samples${epochs}`,
    `work     ${flopCount(figures.flopsPerStep)} of the model a step`,
    '',
    ...ranges.map((range, rank) => {
      const samples = (range.hi - range.lo) * batch.micro;
      const memory = bytes(figures.rankBytes[rank]!);
      return `rank ${rank}   ${describeSlots(range)} (${samples} samples), ${describeGpu(found, rank)}${threads}, memory about ${memory}`;
    }),
    '',
    'commands (each run draws a new token; the coordinator prints its port)',
    `  ${ENVIRONMENT.token}=TOKEN ${shellText(coordinatorCommand(options))}`,
    ...ranges.map((_, index) => {
      const variables = [
        `${ENVIRONMENT.token}=TOKEN`,
        `${ENVIRONMENT.coordinator}=127.0.0.1:PORT`,
        ...Object.entries(workerEnvironment(options, index)).map(([name, value]) => `${name}=${value}`),
      ];
      return `  ${variables.join(' ')} ${shellText(workerCommand())}`;
    }),
  ];
  return `${lines.join('\n')}\n`;
}

function describeData({ data }: Config, { rows, noData }: Preflight): string {
  if (noData !== null) return `not here (${noData.message}): shapes from the configuration`;
  return `${data.path}: ${rows} rows, ${data.validation_rows} held out`;
}

function describeGpu({ gpus, noGpu }: Preflight, rank: number): string {
  const gpu = gpus?.[rank];
  if (gpu !== undefined) return `GPU ${gpu.ordinal} (${describeDevice(gpu)}), `;
  if (noGpu === null) return '';
  const { message } = (noGpu.cause as Error | undefined) ?? noGpu;
  return `a GPU (none here: ${message}), `;
}
