/** What a run would be: arithmetic, ranks, memory and commands, without starting anything. */
import { type Config, slotCount } from '../config/schema.js';
import { openDataset } from '../data/dataset.js';
import { estimateFor } from '../estimate/estimate.js';
import { describeDevice, gpuOf } from '../native/cuda.js';
import { native } from '../native/load.js';
import { bytes, flopRate } from '../telemetry/format.js';
import { assignSlots } from '../worker/collective/tree.js';
import {
  coordinatorCommand,
  ENVIRONMENT,
  type LaunchPlan,
  shellText,
  workerCommand,
  workerId,
} from './commands.js';

export async function dryRun(plan: LaunchPlan, config: Config): Promise<string> {
  const dataset = await openDataset(config.data);
  const host = native().host();
  const shapes = { latent: dataset.latent, text: dataset.text, source: 'data set' } as const;
  const figures = estimateFor(native(), config, shapes, plan.nodes, null);
  const slots = slotCount(config);
  const { batch, schedule } = config;
  const ranges = assignSlots(slots, plan.nodes);
  const trained = dataset.rows - config.data.validation_rows;
  const epochs = (schedule.steps * batch.global) / trained;
  const gpus = config.device === 'cuda' ? await gpusOf(plan.nodes) : null;
  const threads = figures.spec.threads === 1 ? '1 thread' : `${figures.spec.threads} threads`;
  const lines = [
    `run      ${config.name} in ${plan.runDir}, resume ${plan.resume}`,
    `machine  ${host.processors} processors, ${host.isa}`,
    `data     ${config.data.path}: ${dataset.rows} rows, ${config.data.validation_rows} held out`,
    `model    ${(figures.parameters / 1e6).toFixed(2)} M parameters, ${figures.precision}`,
    `batch    ${batch.global} samples = ${slots} slots x ${batch.micro}`,
    `steps    ${schedule.steps} = ${schedule.steps * batch.global} samples = ${epochs.toFixed(2)} epochs`,
    `compute  ${flopRate(figures.flopsPerStep).replace('/s', '')} of model FLOPs a step`,
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

/** By rank. A plan may be made where there are none. */
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
