/** Options that several commands share. */
import { InvalidArgumentError, Option } from 'commander';

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

const BINARY_UNITS: Record<string, number> = { M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** Binary units, as Slurm and Kubernetes count them: "24GiB", "24Gi" and "24G" are the same. */
export function memorySize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([MGT])(?:i?B?)$/i.exec(text.trim());
  const value = match === null ? 0 : Number(match[1]) * BINARY_UNITS[match[2]!.toUpperCase()]!;
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('Expected a size in MiB, GiB or TiB, such as 24GiB.');
}
