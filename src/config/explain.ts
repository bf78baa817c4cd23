/** Explains where each value of a configuration comes from. */
import type { LoadedConfig } from './load.js';
import type { Origin } from './sources.js';
import { leaves } from './value.js';

export interface Explanation extends Origin {
  /** Dotted key. */
  key: string;
  value: unknown;
}

/** Every value of the effective configuration with its origin, in the schema's order. */
export function explain({ config, sources }: LoadedConfig): Explanation[] {
  return [...leaves(config)].map(({ path, value }) => ({
    key: path.join('.'),
    value,
    ...sources.originOf(path),
  }));
}
