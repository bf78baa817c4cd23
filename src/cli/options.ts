/** Options that several commands share. */

import { Option } from 'commander';
import { OrchestratorError } from '../errors.js';
import type { Rates } from '../planning/estimate.js';
import { memorySize, rate } from './arguments.js';
/** `--set key=value`, any number of times; the value is a string[]. */
export function setOption(): Option {
  return new Option('--set <key=value>', 'override a key of the configuration; the value is YAML; repeatable')
    .default([], 'none')
    .argParser((value: string, previous: string[]) => [...previous, value]);
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

/** Both rates of a machine, or null where neither was given. Throws ERR_USAGE for one alone. */
export function ratesOf({ flops, bandwidth }: Partial<Rates>): Rates | null {
  if (flops !== undefined && bandwidth !== undefined) return { flops, bandwidth };
  if (flops === undefined && bandwidth === undefined) return null;
  throw new OrchestratorError('ERR_USAGE', 'Times need both --flops and --bandwidth.', {
    hint: '`orchestrator profile CONFIG` measures both on this machine.',
  });
}
