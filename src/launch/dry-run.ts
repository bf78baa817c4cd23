/** What a run would be: arithmetic, ranks, memory and commands, without starting anything. */
import { type Config, slotCount } from '../config/schema.js';
import { openDataset } from '../data/dataset.js';
import type { OrchestratorError } from '../errors.js';
import { estimateFor } from '../estimate/estimate.js';
import { flopCount } from '../estimate/render.js';
import { configuredShapes, type FoundShapes } from '../estimate/shapes.js';
import { describeDevice, gpuOf } from '../native/cuda.js';
import { native } from '../native/load.js';
import { bytes } from '../telemetry/format.js';
import { assignSlots } from '../worker/collective/tree.js';
import {
  coordinatorCommand,
  ENVIRONMENT,
  type LaunchPlan,
  shellText,
  workerCommand,
  workerId,
} from './commands.js';

/**
 * Without a data set the configuration's shapes serve, and without a GPU its plan is made all the same: a run may be
 * planned on another machine than its own.
 */
export async function dryRun(plan: LaunchPlan, config: Config): Promise<string> {
  const { shapes, data, rows } = await dataOf(config);
  const host = native().host();
  const figures = estimateFor(native(), config, shapes, plan.nodes, null);
  const slots = slotCount(config);
  const { batch, schedule } = config;
  const ranges = assignSlots(slots, plan.nodes);
  const samples = schedule.steps * batch.global;
  const epochs =
    rows === null ? '' : ` = ${(samples / (rows - config.data.validation_rows)).toFixed(2)} epochs`;
  const gpus = config.device === 'cuda' ? await gpusOf(plan.nodes) : null;
  const threads = figures.spec.threads === 1 ? '1 thread' : `${figures.spec.threads} threads`;
  const lines = [
    `run      ${config.name} in ${plan.runDir}, resume ${plan.resume}`,
    `machine  ${host.processors} processors, ${host.isa}`,
    `data     ${data}`,
    `model    ${(figures.parameters / 1e6).toFixed(2)} M parameters, ${figures.precision}`,
    `batch    ${batch.global} samples = ${slots} slots x ${batch.micro}`,
    `steps    ${schedule.steps} = ${samples} samples${epochs}`,
    `work     ${flopCount(figures.flopsPerStep)} of the model a step`,
    '',
    ...ranges.map(({ lo, hi }, rank) => {
      const memory = bytes(figures.rankBytes[rank] as number);
      const gpu = gpus === null ? '' : `${gpus[rank]}, `;
      return `rank ${rank}   slots ${lo}-${hi - 1} (${(hi - lo) * batch.micro} samples), ${gpu}${threads}, memory about ${memory}`;
    }),
    '',
    'commands (the token is drawn anew for each run; the coordinator prints its port)',
    `  ${ENVIRONMENT.token}=TOKEN ${shellText(coordinatorCommand(plan))}`,
    ...ranges.map((_, index) => {
      const variables = [
        `${ENVIRONMENT.token}=TOKEN`,
        `${ENVIRONMENT.coordinator}=127.0.0.1:PORT`,
        `${ENVIRONMENT.workerId}=${workerId(index)}`,
        `${ENVIRONMENT.localRank}=${index}`,
      ];
      return `  ${variables.join(' ')} ${shellText(workerCommand())}`;
    }),
  ];
  return `${lines.join('\n')}\n`;
}

interface Data {
  shapes: FoundShapes;
  /** For the reader. */
  data: string;
  rows: number | null;
}

async function dataOf(config: Config): Promise<Data> {
  const { path, validation_rows: held } = config.data;
  try {
    const { latent, text, rows } = await openDataset(config.data);
    const data = `${path}: ${rows} rows, ${held} held out`;
    return { shapes: { latent, text, source: 'data set' }, data, rows };
  } catch (error) {
    const configured = configuredShapes(config);
    if ((error as OrchestratorError).code !== 'ERR_FILE_OPEN' || configured === null) throw error;
    const data = `not here (${(error as Error).message}): shapes from the configuration`;
    return { shapes: { ...configured, source: 'configuration' }, data, rows: null };
  }
}

/** By rank. */
async function gpusOf(nodes: number): Promise<string[]> {
  try {
    const devices = await native().cudaDevices();
    return Array.from({ length: nodes }, (_, rank) => {
      const gpu = gpuOf(devices, rank);
      return `GPU ${gpu.ordinal} (${describeDevice(gpu)})`;
    });
  } catch (error) {
    return new Array<string>(nodes).fill(`a GPU (none here: ${(error as Error).message})`);
  }
}
