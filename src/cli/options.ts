/** Options that several commands share. */

import { Option } from 'commander';
import { type Config, slotCount } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import type { NativeAddon } from '../native/contract.js';
import { defaultWorkersPerNode } from '../native/cuda.js';
import type { Rates } from '../planning/estimate.js';
import { memorySize, rate, workerCount } from './arguments.js';

/** `--set key=value`, any number of times; the value is a string[]. */
export function setOption(): Option {
  return new Option('--set <key=value>', 'override a key of the configuration; the value is YAML; repeatable')
    .default([], 'none')
    .argParser((value: string, previous: string[]) => [...previous, value]);
}

/** `--nodes N --nproc-per-node M`, as torchrun has them. */
export function workersOptions(): [Option, Option] {
  return [
    new Option('--nodes <n>', 'nodes; they are all this machine').argParser(workerCount).default(1),
    new Option(
      '--nproc-per-node <n>',
      'workers of each node (default: with device: cuda one for each of its GPUs, else one)',
    ).argParser(workerCount),
  ];
}

export interface WorkersFlags {
  nodes: number;
  nprocPerNode?: number;
}

/** Workers of each node: as given; else one for each GPU, as far as the slots of a step reach; on the CPU one. */
export async function workersPerNode(
  addon: Pick<NativeAddon, 'cudaDevices'>,
  config: Config,
  { nodes, nprocPerNode }: WorkersFlags,
): Promise<number> {
  if (nprocPerNode !== undefined) return nprocPerNode;
  const gpus = await defaultWorkersPerNode(addon, config.device, nodes);
  return Math.max(1, Math.min(gpus, Math.floor(slotCount(config) / nodes)));
}

/** `--memory 24GiB`: the value is a number of bytes. */
export function memoryOption(): Option {
  return new Option(
    '--memory <size>',
    'memory that the run may take, such as 24GiB (default: what this machine has, and its control group allows)',
  ).argParser(memorySize);
}

export const FLOPS_OPTION = [
  '--flops <rate>',
  'FLOP/s that a worker reaches in matmuls, such as 400G; with --bandwidth',
  rate,
] as const;

export const BANDWIDTH_OPTION = [
  '--bandwidth <rate>',
  'bytes/s that a worker reads and writes, such as 40G; with --flops',
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
  throw new OrchestratorError('ERR_USAGE', 'Times need both --flops and --bandwidth.', {
    hint: '`orchestrator profile CONFIG` measures both on this machine.',
  });
}
