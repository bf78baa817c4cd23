/**
 * What may change when a run is resumed: for every key of the configuration whether another value takes
 * effect, is ignored or is refused, and why. The coordinator, its messages and docs/reference/resume.md follow
 * this table.
 */
import { isMapping, type Mapping } from '../files/json.js';
import { storedObjective } from '../objective/objective.js';
import { keyPaths } from './describe.js';
import { type LoadedConfig, parseConfig, withDefaults } from './load.js';
import type { Config } from './schema.js';
import { leaves, setAt, show, valueAt } from './value.js';

type Change =
  /** The new value counts from the next step on. */
  | 'applies'
  /** The new value has no effect on a run that is resumed. */
  | 'ignored'
  /** Another value is allowed if it leads to the same data set, or with --allow-data-change to a changed one. */
  | 'same data'
  /** The run is refused. */
  | 'refused';

export interface ResumeRule {
  change: Change;
  /** What follows from a change, or why it is refused: a clause. */
  why: string;
  /** What to do instead of a refused change; null = start a new run from the weights. */
  instead?: string;
  /** A key that is not set keeps the value of the run, whatever its default is. */
  kept?: true;
  /** The meaning of the key in checkpoints of versions that did not have it. */
  before?: unknown;
}

const applies = (why: string): ResumeRule => ({ change: 'applies', why });
const refused = (why: string): ResumeRule => ({ change: 'refused', why });

const SAME_DATA: ResumeRule = {
  change: 'same data',
  why: 'the data set that it leads to must be that of the run, wherever it lies, or with --allow-data-change that data set after it was corrected or extended',
  instead: 'Point data.path at the data set of the run',
};
const SCALED = refused('the model has learned latents of the other scale');
/** Where not set, these follow from the data set. */
const WIDTH = refused('the weights of the checkpoint have the shape of their model');
const MODEL: ResumeRule = { ...WIDTH, kept: true };
const BITS = 'the arithmetic is another one, so the bits of the result are, too';
const NO_BITS = 'time and memory change, the result does not';
const RATE = 'the next step takes the new value';
const ORDER = 'the order of the samples follows from it, so rows would be repeated or skipped';

/** By key. A rule counts for all keys below its own that have none. */
export const RESUME_RULES: Readonly<Record<string, ResumeRule>> = {
  name: applies('records name the run so from now on; its folder is that of --run-dir'),
  seed: refused(`${ORDER}, and noise would be another`),
  device: applies(BITS),
  'data.path': SAME_DATA,
  'data.columns': SAME_DATA,
  'data.latent_shape': SAME_DATA,
  'data.text_shape': SAME_DATA,
  'data.latent_form': SAME_DATA,
  'data.bfloat16': SAME_DATA,
  'data.latent_shift': SCALED,
  'data.latent_scale': SCALED,
  'data.on_non_finite': applies(RATE),
  'data.validation_rows': refused('other rows would be held out, among them rows that were trained on'),
  'data.synthetic_captions': applies(RATE),
  'data.drop': applies(RATE),
  model: MODEL,
  'model.latent_channels': WIDTH,
  'model.context_dim': WIDTH,
  'model.pooled_dim': WIDTH,
  'objective.formulation': refused('the network has learned the other formulation'),
  'objective.shift': applies(RATE),
  'batch.global': refused(ORDER),
  'batch.micro': applies('gradients are summed in other groups, so the bits of the result are others'),
  'batch.accumulate': {
    ...refused('it says which gradients are summed into one, and is fixed within a run'),
    instead: 'Set batch.accumulate as in the run; batch.micro may change',
  },
  'optimizer.name': refused('the checkpoint holds the moments of its optimizer'),
  optimizer: applies(RATE),
  schedule: applies('the learning rate of the next step is that of the new schedule'),
  ema: applies(RATE),
  // Versions without this key had no warm-up.
  'ema.warmup': { ...applies(RATE), kept: true, before: false },
  precision: applies(BITS),
  // GPUs that compute GELU within its matmul recompute it from rounded values at the level norms.
  activation_checkpointing: applies(`${NO_BITS}, except from or to norms on a GPU that fuses GELU`),
  threads: applies(NO_BITS),
  threads_per_slot: applies(NO_BITS),
  exchange: applies(NO_BITS),
  init: { change: 'ignored', why: 'the weights are those of the checkpoint' },
  freeze: applies(
    'what is frozen now keeps its weights; what no longer is starts with moments of zero, so its first updates are up to about three times as large',
  ),
  validation: applies('validations from now on follow it'),
  telemetry: applies('records from now on follow it'),
  checkpoint: applies('checkpoints from now on follow it'),
};

export const EMA_OFF = applies('the average is given up; it cannot begin again within the run');
export const EMA_ON = refused(
  'the checkpoint holds no average, and one that begins within a run is not that of the run',
);

/** The rule of a key, or undefined for a key that is only a mapping of others. */
export function resumeRule(key: string): ResumeRule | undefined {
  for (let prefix = key; prefix !== ''; prefix = prefix.slice(0, Math.max(0, prefix.lastIndexOf('.')))) {
    const rule = RESUME_RULES[prefix];
    if (rule !== undefined) return rule;
  }
  return undefined;
}

/** A key whose value differs from that of the run. */
export interface ChangedKey {
  key: string;
  before: unknown;
  now: unknown;
  rule: ResumeRule;
}

/** The keys that differ between the configuration of a checkpoint and that of a run which resumes from it. */
export function changedKeys(then: Config, now: Config): ChangedKey[] {
  if ((then.ema === null) !== (now.ema === null)) {
    const switched = {
      key: 'ema',
      before: then.ema,
      now: now.ema,
      rule: now.ema === null ? EMA_OFF : EMA_ON,
    };
    return [switched, ...changedKeys({ ...then, ema: null }, { ...now, ema: null })];
  }
  const flat = (config: Config) =>
    new Map([...leaves(config)].map(({ path, value }) => [path.join('.'), value]));
  const [old, current] = [flat(then), flat(now)];
  return [...new Set([...old.keys(), ...current.keys()])].flatMap((key) => {
    const [before, after] = [old.get(key), current.get(key)];
    if (JSON.stringify(before) === JSON.stringify(after)) return [];
    return [{ key, before, now: after, rule: resumeRule(key)! }];
  });
}

/** "batch.global was 8 at step 6 and is 16 now": what the messages about a changed key begin with. */
export function describeChange({ key, before, now }: ChangedKey, step: number, place = ''): string {
  const text = (value: unknown) => (value === undefined ? 'absent' : show(value));
  return `${key} was ${text(before)} at step ${step} and is ${text(now)} now${place}`;
}

/**
 * The configuration in a checkpoint. Keys that its version did not have get the value that says what it did.
 *
 * @param name names it in errors.
 */
export function storedConfig(stored: unknown, name: string): Config {
  const config: unknown = structuredClone(stored);
  if (isMapping(config)) fillOlder(config);
  return parseConfig(JSON.stringify(config), name);
}

function fillOlder(config: Mapping): void {
  if (isMapping(config.objective)) config.objective = storedObjective(config.objective);
  for (const [key, { before }] of Object.entries(RESUME_RULES)) {
    const path = key.split('.');
    const parent = valueAt(config, path.slice(0, -1));
    if (before !== undefined && isMapping(parent) && !(path.at(-1)! in parent)) setAt(config, path, before);
  }
}

/** The configuration with which a run is resumed: keys that stay as they are unless they are set do so. */
export function keepUnset(loaded: LoadedConfig, stored: Config): LoadedConfig {
  const values = keyPaths()
    .filter((path) => resumeRule(path.join('.'))?.kept)
    .map((path) => ({ path, value: valueAt(stored, path) }));
  return withDefaults(
    loaded,
    values.filter(({ value }) => value !== undefined && !isMapping(value)),
  );
}
