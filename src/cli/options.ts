/** Options that several commands share. */
import { Option } from 'commander';
import { type Config, slotCount } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import type { NativeAddon } from '../native/contract.js';
import { defaultWorkersPerNode } from '../native/cuda.js';
import type { Rates } from '../planning/estimate.js';
import { memorySize, rate, workerCount } from './arguments.js';

/** `--set key=value`, repeatable; its value is a string[]. */
export function setOption(): Option {
  return new Option('--set <key=value>', 'override a key of the configuration; the value is YAML; repeatable')
    .default([], 'none')
    .argParser((value: string, previous: string[]) => [...previous, value]);
}

/** `--nodes N --nproc-per-node M`, named as in torchrun. */
export function workersOptions(): [Option, Option] {
  return [
    new Option('--nodes <n>', 'number of nodes; all of them are this machine')
      .argParser(workerCount)
      .default(1),
    new Option(
      '--nproc-per-node <n>',
      'workers per node (default: one per GPU with device: cuda, otherwise one)',
    ).argParser(workerCount),
  ];
}

export interface WorkersFlags {
  nodes: number;
  nprocPerNode?: number;
}

/** Workers per node: as given; otherwise one per GPU, but not more than there are slots; on the CPU one. */
export async function workersPerNode(
  addon: Pick<NativeAddon, 'cudaDevices'>,
  config: Config,
  { nodes, nprocPerNode }: WorkersFlags,
): Promise<number> {
  if (nprocPerNode !== undefined) return nprocPerNode;
  const gpus = await defaultWorkersPerNode(addon, config.device, nodes);
  return Math.max(1, Math.min(gpus, Math.floor(slotCount(config) / nodes)));
}

/** `--memory 24GiB`; its value is a number of bytes. */
export function memoryOption(): Option {
  return new Option(
    '--memory <size>',
    'memory available to the run, such as 24GiB (default: that of this machine and its control group)',
  ).argParser(memorySize);
}

export const FLOPS_OPTION = [
  '--flops <rate>',
  'FLOP/s that a worker reaches in matmuls, such as 400G; needs --bandwidth',
  rate,
] as const;

export const BANDWIDTH_OPTION = [
  '--bandwidth <rate>',
  'bytes/s that a worker reads and writes, such as 40G; needs --flops',
  rate,
] as const;

/**
 * Both rates of a machine, or null when neither was given.
 *
 * @throws OrchestratorError ERR_USAGE: when only one of them was given.
 */
export function ratesOf({ flops, bandwidth }: Partial<Rates>): Rates | null {
  if (flops !== undefined && bandwidth !== undefined) return { flops, bandwidth };
  if (flops === undefined && bandwidth === undefined) return null;
  throw new OrchestratorError(
    'ERR_USAGE',
    'Times need both --flops and --bandwidth',
    '`orchestrator profile CONFIG` measures both on this machine',
  );
}
