/** The runs of a study: every variant on every data set with every seed. */
import { dirname, isAbsolute, join } from 'node:path';
import { validatedWeights } from '../config/derived.js';
import { loadConfigWithSources } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { canonicalHash } from '../files/hash.js';
import { objectiveOf } from '../objective/objective.js';
import { nearest } from '../text/nearest.js';
import type { Evaluation } from './schema.js';
import type { LoadedStudy } from './spec.js';

export interface StudyRun {
  /** Its folder, and `name` of its configuration. */
  name: string;
  variant: string;
  data: string;
  seed: number;
  config: Config;
  /** Hash of the configuration without the keys that change no result. */
  hash: string;
}

export interface Variant {
  name: string;
  keys: Readonly<Record<string, unknown>>;
}

/** The variants of a study in its order: first the combinations of `vary`, then those that are named. */
export function variantsOf({ spec, path }: LoadedStudy): Variant[] {
  let combined: Variant[] = [{ name: '', keys: {} }];
  const varied = Object.entries(spec.vary);
  for (const [key, values] of varied) {
    combined = combined.flatMap(({ name, keys }) =>
      values.map((value) => {
        const own = varied.length === 1 ? String(value) : `${key.split('.').at(-1)}=${String(value)}`;
        return { name: name === '' ? own : `${name}, ${own}`, keys: { ...keys, [key]: value } };
      }),
    );
  }
  const named = Object.entries(spec.variants).map(([name, keys]) => ({ name, keys }));
  const all = [...(varied.length === 0 ? [] : combined), ...named];
  const twice = all.find(({ name }, i) => all.findIndex((other) => other.name === name) !== i);
  if (twice !== undefined) {
    throw new OrchestratorError('ERR_CONFIG', `${path}: two variants have the name "${twice.name}"`);
  }
  return all;
}

/** The variants of these names, in the study's order; all of them where none is given. */
export function chosenVariants(variants: readonly Variant[], only: readonly string[]): Variant[] {
  const names = variants.map(({ name }) => name);
  for (const wanted of only) {
    if (names.includes(wanted)) continue;
    const near = nearest(wanted, names);
    const advice = near === null ? '' : `; did you mean ${near}`;
    throw new OrchestratorError('ERR_USAGE', `The study has no variant "${wanted}"${advice}`);
  }
  return variants.filter(({ name }) => only.length === 0 || only.includes(name));
}

/** "rf-lognorm-0.5-0.6" */
function inFileNames(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9._-]+/g, '-').replaceAll(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, '');
}

/** Keys by which runs are executed; another value leads to the same result. */
export function withoutExecution({ threads, threads_per_slot, exchange, telemetry, ...rest }: Config) {
  return rest;
}

/**
 * The runs of the variants. Those with the first seed come first, so that a study that is stopped has compared
 * all variants. Each run's configuration is validated.
 *
 * @throws OrchestratorError ERR_CONFIG.
 */
export function expand(study: LoadedStudy, variants: readonly Variant[]): StudyRun[] {
  const { spec, path } = study;
  const base = isAbsolute(spec.config) ? spec.config : join(dirname(path), spec.config);
  const runs = spec.seeds.flatMap((seed) =>
    variants.flatMap(({ name: variant, keys }) =>
      Object.entries(spec.data).map(([data, { path: dataPath }]) => {
        const name = `${data}.${inFileNames(variant)}.seed-${seed}`;
        const set = {
          ...{ name, seed, 'data.path': dataPath },
          ...spec.set,
          ...keys,
          // A run is scored at the step of the lowest validation loss of its EMA.
          ...(spec.evaluation === null ? {} : { 'checkpoint.keep_best': true }),
        };
        const overrides = Object.entries(set).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
        const config = configOf(base, overrides, spec.evaluation, `${path}: variant "${variant}"`);
        return { name, variant, data, seed, config, hash: canonicalHash(withoutExecution(config)) };
      }),
    ),
  );
  const seen = new Map<string, string>();
  for (const { name, variant } of runs) {
    const other = seen.get(name);
    if (other !== undefined) {
      const what = `${path}: the variants "${other}" and "${variant}" would have one folder, ${name}`;
      throw new OrchestratorError('ERR_CONFIG', what, 'Rename one of them');
    }
    seen.set(name, variant);
  }
  return runs;
}

/** For a name that a comma has cut in two. */
const QUOTES = "In a list in brackets, put names with a comma in quotes: ['rf/lognorm(0,1)', rf]";

function configOf(
  path: string,
  overrides: readonly string[],
  evaluation: Evaluation | null,
  what: string,
): Config {
  try {
    // Variables of this process would change what the study's file says.
    const { config } = loadConfigWithSources(path, overrides, {});
    if (validatedWeights(config).length === 0) {
      throw new OrchestratorError('ERR_CONFIG', 'expected a validation, because losses are compared');
    }
    // Some formulations do not have every schedule: that is refused before they are trained.
    const objective = objectiveOf(config.objective);
    for (const { schedule, steps } of evaluation?.samplers ?? []) objective.grid(schedule, steps);
    return config;
  } catch (error) {
    if (!(error instanceof OrchestratorError)) throw error;
    const { code } = error;
    const hint = what.includes('(') && !what.includes(')') ? QUOTES : error.hint;
    throw new OrchestratorError(code, `${what}: ${error.message}`, { hint, cause: error });
  }
}
