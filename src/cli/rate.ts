/** Rates on the command line. */
import { InvalidArgumentError } from 'commander';
import { OrchestratorError } from '../errors.js';
import type { Rates } from '../planning/estimate.js';

const PREFIXES: Record<string, number> = { '': 1, K: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15 };

/** "400G", "0.8P", "4e11": a positive number with a decimal prefix; an ending such as FLOP/s or B/s is allowed. */
export function rate(text: string): number {
  const match = /^(\d+(?:\.\d+)?(?:e\d+)?)\s*([KMGTP]?)(?:FLOPS?|B|F)?(?:\/s)?$/i.exec(text);
  const value = match === null ? 0 : Number(match[1]) * PREFIXES[match[2]!.toUpperCase()]!;
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('Expected a positive number with K, M, G, T or P, such as 400G.');
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
