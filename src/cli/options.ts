/** Options that several commands share. */
import { type Command, Option } from 'commander';
import { type Config, slotCount } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import type { NativeAddon } from '../native/contract.js';
import { defaultWorkersPerNode } from '../native/cuda.js';
import type { Rates } from '../planning/estimate.js';
import { rate, workerCount } from './arguments.js';

/** An option with a fixed set of values; the first is the default. */
export function choiceOption(flags: string, description: string, choices: readonly string[]): Option {
  return new Option(flags, description).choices(choices).default(choices[0]);
}

/** Adds the argument `<config>`, and `--set key=value`, repeatable, whose value is a string[]. */
export function configArgument(command: Command): Command {
  const description = 'override a key of the configuration; the value is YAML; repeatable';
  return command
    .argument('<config>', 'YAML file')
    .addOption(
      new Option('--set <key=value>', description)
        .default([], 'none')
        .argParser((value: string, previous: string[]) => [...previous, value]),
    );
}

/** Adds `--nodes N --nproc-per-node M`, named as in torchrun. */
export function workersOptions(command: Command): Command {
  const nodes = 'number of nodes; all of them are this machine';
  return workersPerNodeOption(command.option('--nodes <n>', nodes, workerCount, 1));
}

/** Adds `--nproc-per-node M`. */
export function workersPerNodeOption(command: Command): Command {
  const description = 'workers per node (default: one per GPU with device: cuda, otherwise one)';
  return command.option('--nproc-per-node <n>', description, workerCount);
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

/** Adds `--flops` and `--bandwidth`, the rates of a machine. */
export function ratesOptions(command: Command): Command {
  return command
    .option(
      '--flops <rate>',
      'FLOP/s that a worker reaches in matmuls, such as 400G; needs --bandwidth',
      rate,
    )
    .option('--bandwidth <rate>', 'bytes/s that a worker reads and writes, such as 40G; needs --flops', rate);
}

/** Both rates of a machine, or null when neither was given. */
export function ratesOf({ flops, bandwidth }: Partial<Rates>): Rates | null {
  if (flops !== undefined && bandwidth !== undefined) return { flops, bandwidth };
  if (flops === undefined && bandwidth === undefined) return null;
  throw new OrchestratorError(
    'ERR_USAGE',
    'Times need both --flops and --bandwidth',
    '`orchestrator profile CONFIG` measures both on this machine',
  );
}
