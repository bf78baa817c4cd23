/** Options that several commands share. */
import { Option } from 'commander';

/** `--set key=value`, any number of times; the value is a string[]. */
export function setOption(): Option {
  return new Option('--set <key=value>', 'override a key of the configuration; the value is YAML; repeatable')
    .default([], 'none')
    .argParser((value: string, previous: string[]) => [...previous, value]);
}
