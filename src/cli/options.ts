/** Options that several commands share. */
import { networkInterfaces } from 'node:os';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { type Config, slotCount } from '../config/schema.js';
import { advertisable, type NetworkAddress } from '../coordinator/network-address.js';
import { OrchestratorError } from '../errors.js';
import { PATIENCE_SECONDS } from '../launch/processes.js';
import type { NativeAddon } from '../native/contract.js';
import { defaultWorkersPerNode } from '../native/cuda.js';
import type { Rates } from '../planning/estimate.js';
import { rate, timeLimit, workerCount } from './arguments.js';

/** Weights without a checkpoint, as descriptions of options name them. */
export const WEIGHTS_ALONE = "a safetensors file, *.safetensors.index.json, or diffusers' folder";

/** An option with a fixed set of values; the first is the default. */
export function choiceOption(flags: string, description: string, choices: readonly string[]): Option {
  return new Option(flags, description).choices(choices).default(choices[0]);
}

/**
 * Where a run listens on a network, from --listen and --advertise; null: it is for this machine alone.
 *
 * @throws OrchestratorError ERR_USAGE
 */
export function networkOf(listen: string | undefined, advertise: string | undefined): NetworkAddress | null {
  if (listen === undefined) {
    if (advertise === undefined) return null;
    throw new OrchestratorError('ERR_USAGE', '--advertise needs --listen HOST:PORT');
  }
  const host = advertise ?? advertisable(listen);
  if (host !== null) return { listen, advertise: host };
  const own = Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? []).filter(({ internal }) => !internal).map(({ address }) => address),
  );
  const known = own.length === 0 ? '' : `; this machine has ${own.join(', ')}`;
  throw new OrchestratorError(
    'ERR_USAGE',
    `--listen ${listen} stands for all addresses of this machine, and nobody can connect to it`,
    `Say with --advertise HOST under which of them the others reach it${known}`,
  );
}

/** The run folder under a name that means the same on other machines, if it is there. */
export function seenFrom(network: NetworkAddress | null, runDir: string): string {
  return network === null ? runDir : resolve(runDir);
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

/** Adds `-n, --nodes N` and `--nproc-per-node M`, named as in torchrun. */
export function workersOptions(command: Command): Command {
  return workersPerNodeOption(command.option('-n, --nodes <n>', 'number of nodes', workerCount, 1));
}

/** Adds `--nproc-per-node M`. */
export function workersPerNodeOption(command: Command): Command {
  const description = 'workers per node (default: one per GPU with device: cuda, otherwise one)';
  return command.option('--nproc-per-node <n>', description, workerCount);
}

/** Adds `--patience TIME`, in seconds. */
export function patienceOption(command: Command): Command {
  const description =
    'how long the run waits for workers when too few are left, and workers for a coordinator that is gone';
  return command.addOption(
    new Option('--patience <time>', description).argParser(timeLimit).default(PATIENCE_SECONDS, '10m'),
  );
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
