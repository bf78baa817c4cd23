/** Configurations that earlier versions stored: what they meant by keys that they lack. */
import { isMapping } from '../files/json.js';
import { parseConfig } from './load.js';
import type { Config } from './schema.js';
import type { Sources } from './sources.js';
import { setAt, valueAt } from './value.js';

/** How earlier versions behaved, where it differs from today's default. */
const EARLIER: readonly { path: readonly string[]; value: unknown }[] = [
  { path: ['ema', 'warmup'], value: false },
];

/** Parses the configuration of a checkpoint's manifest. `name` names it in errors. */
export function parseStored(stored: unknown, name: string): Config {
  const completed: unknown = structuredClone(stored);
  for (const { path, value } of EARLIER) {
    const parent = valueAt(completed, path.slice(0, -1));
    if (isMapping(completed) && isMapping(parent) && valueAt(completed, path) === undefined) {
      setAt(completed, path, value);
    }
  }
  return parseConfig(JSON.stringify(completed), name);
}

/**
 * The configuration with which a run goes on from a checkpoint: keys with other defaults today, which the
 * user did not set, keep what the checkpoint's configuration says.
 *
 * @param stored that of the checkpoint (see parseStored).
 */
export function goingOn(config: Config, sources: Sources, stored: Config): Config {
  const result = structuredClone(config);
  for (const { path } of EARLIER) {
    const before = valueAt(stored, path);
    const isDefault = valueAt(result, path) !== undefined && sources.originOf(path).source === 'default';
    if (isDefault && before !== undefined) setAt(result, path, before);
  }
  return result;
}
