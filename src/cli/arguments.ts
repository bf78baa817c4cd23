/** Parsers for arguments of the command line. */
import { InvalidArgumentError } from 'commander';
import { OrchestratorError } from '../errors.js';

const BINARY_UNITS: Record<string, number> = { M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** A size with binary units, as in Slurm and Kubernetes: "24GiB", "24Gi" and "24G" are the same. */
export function memorySize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([MGT])(?:i?B?)$/i.exec(text.trim());
  const value = match === null ? 0 : Number(match[1]) * BINARY_UNITS[match[2]!.toUpperCase()]!;
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('Expected a size in MiB, GiB or TiB, such as 24GiB.');
}

const PREFIXES: Record<string, number> = { '': 1, K: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15 };

/** A positive number with a decimal prefix, such as "400G", "0.8P" or "4e11"; FLOP/s or B/s may follow. */
export function rate(text: string): number {
  const match = /^(\d+(?:\.\d+)?(?:e\d+)?)\s*([KMGTP]?)(?:FLOPS?|B|F)?(?:\/s)?$/i.exec(text);
  const value = match === null ? 0 : Number(match[1]) * PREFIXES[match[2]!.toUpperCase()]!;
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('Expected a positive number with K, M, G, T or P, such as 400G.');
}

export function positiveInteger(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('Expected a whole number from 1.');
  return Number(text);
}

export function parseSeed(text: string): bigint {
  if (!/^\d{1,20}$/.test(text) || BigInt(text) >= 1n << 64n) {
    throw new InvalidArgumentError('Expected a whole number from 0 to 2^64 - 1.');
  }
  return BigInt(text);
}

export function finite(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('Expected a number.');
  return value;
}

export function positive(text: string): number {
  const value = finite(text);
  if (value <= 0) throw new InvalidArgumentError('Expected a number above 0.');
  return value;
}

export function workerCount(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 4096) {
    throw new InvalidArgumentError('Expected a whole number from 1 to 4096.');
  }
  return value;
}

/** A size in bytes: "10GB", "500MB", "2GiB"; null for "0", no limit. */
export function shardSize(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?$/i.exec(text);
  if (match === null)
    throw new InvalidArgumentError('Expected a size such as 10GB, 500MB or 2GiB; 0 = one file.');
  const unit = (match[2] ?? '').toUpperCase();
  const steps = unit === '' ? 0 : 'KMGT'.indexOf(unit[0]!) + 1;
  let size = Number(match[1]);
  for (let i = 0; i < steps; i++) size *= unit.endsWith('I') ? 1024 : 1000;
  return size === 0 ? null : size;
}

/**
 * The value of an environment variable.
 *
 * @throws OrchestratorError ERR_USAGE: when it is not set.
 */
export function requireVariable(name: string): string {
  const value = process.env[name];
  if (value !== undefined && value !== '') return value;
  throw new OrchestratorError(
    'ERR_USAGE',
    `The environment variable ${name} is not set`,
    '`orchestrator launch` starts this command; launch --dry-run prints its environment',
  );
}

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new InvalidArgumentError('Expected a whole number from 0 to 2^53 - 1.');
}

export function repeatCount(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= 10_000) return value;
  throw new InvalidArgumentError('Expected a number from 1 to 10000.');
}
