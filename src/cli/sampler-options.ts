/** Options that `sample` and `evaluate` share. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { SCHEDULES, type ScheduleKind } from '../sampling/schedule.js';
import type { OpenOptions } from '../sampling/shapes-model.js';

export interface SamplerOptions {
  checkpoint: string;
  steps: number;
  guidance: number;
  schedule: ScheduleKind;
  shift?: number;
  seed: bigint;
  weights: 'ema' | 'master';
  precision: OpenOptions['precision'];
  threads?: number;
}

export function samplerOptions(command: Command): Command {
  return command
    .requiredOption('--checkpoint <path>', "a checkpoint's folder, or a run's (its latest checkpoint)")
    .option('--steps <n>', 'Euler steps', positiveInteger, 20)
    .option('--guidance <w>', 'guidance scale; 1 = none', finite, 2.5)
    .addOption(
      new Option('--schedule <kind>', "times of the steps: the paper's, or the reference code's")
        .choices([...SCHEDULES])
        .default('uniform'),
    )
    .option('--shift <alpha>', "resolution shift (default: the training run's)", positive)
    .addOption(new Option('--weights <which>', 'weights to use').choices(['ema', 'master']).default('ema'))
    .addOption(
      new Option('--precision <p>', 'arithmetic of the model')
        .choices(['auto', 'fp32', 'bf16'])
        .default('auto'),
    )
    .option('--threads <n>', 'compute threads (default: one for each processor)', positiveInteger);
}

export function inferenceOptions({ weights, precision, threads }: SamplerOptions): OpenOptions {
  return { weights, precision, threads: threads ?? null };
}

export function positiveInteger(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('Expected a whole number from 1.');
  return Number(text);
}

/** `--seed`, a bigint in [0, 2^64). Its default has words of its own, because commander cannot print a bigint. */
export function seedOption(description: string): Option {
  return new Option('--seed <n>', description).argParser(parseSeed).default(0n, '0');
}

function parseSeed(text: string): bigint {
  if (!/^\d{1,20}$/.test(text) || BigInt(text) >= 1n << 64n) {
    throw new InvalidArgumentError('Expected a whole number from 0 to 2^64 - 1.');
  }
  return BigInt(text);
}

function finite(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('Expected a number.');
  return value;
}

function positive(text: string): number {
  const value = finite(text);
  if (value <= 0) throw new InvalidArgumentError('Expected a number above 0.');
  return value;
}
