/**
 * Finds out how a run would start, without changing anything: fresh or from which checkpoint, from which
 * weights, and with which configuration. `launch`, its dry run and the coordinator refuse by this one
 * function, so that a refusal reads the same everywhere and leaves the run folder as it was.
 */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { CHECKPOINTS, type FoundCheckpoint, resolveResume } from '../checkpoint/resume.js';
import { listCheckpoints } from '../checkpoint/retention.js';
import { openCheckpoint, verifyCheckpoint } from '../checkpoint/store.js';
import { type LoadedConfig, withDefaults } from '../config/load.js';
import { modelKeys } from '../config/model.js';
import {
  type ChangedKey,
  changedKeys,
  describeChange,
  EMA_OFF,
  keepUnset,
  storedConfig,
} from '../config/resume.js';
import type { Config } from '../config/schema.js';
import { type DescribedDataset, describeDataset, type Identification } from '../data/dataset.js';
import { locateWeights, type WeightsSource } from '../engine/inference.js';
import { type DatasetShapes, gridOf, modelSpec } from '../engine/spec.js';
import { requireReachable } from '../engine/start.js';
import { OrchestratorError, refuse } from '../errors.js';
import { withHome } from '../files/home.js';
import { describeModel } from '../model/tensors.js';
import { withWeights } from '../model/weights.js';
import type { ModelSpec } from '../native/contract.js';
import { isaOfRun } from '../rule/arithmetic.js';
import { learningRate } from '../step/learning-rate.js';
import { firstSegment } from '../step/plan.js';
import { checkRows, type Segment } from '../step/segment.js';
import { quantity } from '../text/quantities.js';
import { shellText } from '../text/shell.js';
import { planOnResume } from './data-change.js';

interface ResolveOptions {
  /** Folder of the run; it may be missing. */
  runDir: string;
  /** "auto", "never" or a path. */
  resume: string;
  /** Whether the run may go on with a data set that was corrected or extended. */
  allowDataChange?: boolean;
  /** Whether to read every byte of checkpoints; otherwise the coordinator does so. */
  thorough: boolean;
  identify?: Identification;
}

export interface ResolvedRun {
  /** The effective configuration: `model` and `init` are complete. */
  config: Config;
  model: ModelSpec;
  /** The segments of the sample plan; none for a new run whose data set is not on this machine. */
  segments: Segment[];
  /** The checkpoint to resume from; null = start at step 1. */
  checkpoint: FoundCheckpoint | null;
  /** The instruction set with which all workers compute; null: none is fixed yet, or they compute on GPUs. */
  isa: string | null;
  /** Whether the checkpoint is one of this run's folder, so that its records go on. */
  own: boolean;
  /** Step of the checkpoint, or 0. */
  step: number;
  /** "fresh, weights from seed 0", "resumed from runs/x/checkpoints/step-00000006 (step 6)". */
  start: string;
  /** Messages about what was found: changed keys, the weights to start from. */
  notes: string[];
  /** About damaged checkpoints, and later ones that --resume PATH leaves out; what the run gives up. */
  warnings: string[];
}

/** Where the values of these keys come from if they are not set. */
const FROM_DATA = ['model.latent_channels', 'model.context_dim', 'model.pooled_dim'];

/** Where a key was set, for messages: " (run.yaml:3:5)"; "" for a default. */
function placesOf({ sources }: LoadedConfig): (key: string) => string {
  return (key) => {
    const { place } = sources.originOf(key.split('.'));
    if (place !== '') return ` (${place})`;
    return FROM_DATA.includes(key) ? ' (from the data set)' : '';
  };
}

/** The data set of a configuration, by its metadata. */
export function describeData(loaded: LoadedConfig): DescribedDataset {
  const { path, columns } = loaded.config.data;
  const placeOf = placesOf(loaded);
  try {
    return describeDataset(loaded.config.data, placeOf);
  } catch (error) {
    // Otherwise the message names the key of the column.
    const isAboutPath = !existsSync(path) || columns === null;
    if (!(error instanceof OrchestratorError) || !isAboutPath) throw error;
    const where = `data.path${placeOf('data.path')}: ${error.message}`;
    throw new OrchestratorError(error.code, where, { hint: error.hint, cause: error, also: error.also });
  }
}

/**
 * @param shapes those of the data set, or where it is not on this machine, of the configuration.
 * @param dataset null where it is not on this machine.
 */
export async function resolveRun(
  loaded: LoadedConfig,
  shapes: DatasetShapes,
  dataset: DescribedDataset | null,
  options: ResolveOptions,
): Promise<ResolvedRun> {
  const { runDir, resume, thorough } = options;
  const checkpoints = join(runDir, CHECKPOINTS);
  const found = await resolveResume(resume, runDir, thorough ? verifyCheckpoint : openCheckpoint);
  // With a checkpoint from another folder, this is a new run.
  const own = found !== null && dirname(resolve(found.path)) === resolve(checkpoints);
  if (!own) await refuseToOverwrite(runDir, checkpoints);
  const resolved =
    found === null
      ? await newRun(loaded, shapes, dataset, options)
      : await resumed(loaded, shapes, dataset, found, options);
  const { batch, data } = resolved.config;
  if (dataset !== null) checkRows(dataset.rows, data.validation_rows, batch.global, placesOf(loaded));
  const damaged = (found?.damaged ?? []).map(
    ({ reason }) => `damaged checkpoint, not used: ${reason}; ${found!.path} is used instead`,
  );
  const warnings = [...resolved.warnings, ...damaged];
  const step = found?.manifest.step ?? 0;
  if (own && resume !== 'auto') warnings.push(...(await abandoned(checkpoints, step)));
  const isa = isaOfRun(resolved.config, found?.manifest ?? null);
  return { ...resolved, checkpoint: found, isa, own, step, warnings };
}

/** What there is to say of a run without a step left; null for others. */
export function completion({ config, step }: Pick<ResolvedRun, 'config' | 'step'>): string | null {
  const { steps } = config.schedule;
  if (step < steps) return null;
  return `already at step ${step} of ${steps}: nothing to do; raise schedule.steps to go on`;
}

/** A warning of later checkpoints of the run, which `--resume PATH` does not take. */
async function abandoned(checkpoints: string, step: number): Promise<string[]> {
  const [latest] = await listCheckpoints(checkpoints);
  if (latest === undefined || latest.step <= step) return [];
  return [
    `${latest.path} is later than step ${step}, from which --resume says to go on: the steps after ${step} are trained again, and later checkpoints are renamed to superseded-*; \`--resume auto\` takes the latest`,
  ];
}

/**
 * Refuses to start a new run in a folder with checkpoints, because retention would eventually remove them.
 */
async function refuseToOverwrite(path: string, checkpoints: string): Promise<void> {
  const [latest] = await listCheckpoints(checkpoints);
  if (latest === undefined) return;
  throw new OrchestratorError(
    'ERR_RUN_DIR',
    `${path} holds checkpoints up to step ${latest.step} already`,
    'Resume from them with `--resume auto`, start in another --run-dir, or remove the folder',
  );
}

async function newRun(
  loaded: LoadedConfig,
  shapes: DatasetShapes,
  dataset: DescribedDataset | null,
  { thorough, identify }: ResolveOptions,
) {
  // Once for this machine: the workers then find it in the cache.
  const hash = await dataset?.identify(identify);
  const started = await startFresh(loaded, shapes, thorough);
  const { data, seed } = started.config;
  const segments = dataset === null ? [] : [firstSegment(hash!, dataset.rows, data.validation_rows, seed)];
  return { ...started, segments };
}

/** A run that begins at step 1: its configuration and model, and where its weights come from. */
export async function startFresh(loaded: LoadedConfig, shapes: DatasetShapes, thorough: boolean) {
  const placeOf = placesOf(loaded);
  const { init, seed } = loaded.config;
  if (init === null) {
    const model = modelSpec(loaded.config, shapes, placeOf);
    const config = { ...loaded.config, model: modelKeys(model) };
    return { config, model, start: `fresh, weights from seed ${seed}`, notes: [], warnings: [] };
  }
  const source = await locateInit(init, placeOf('init'), thorough);
  let isReadable = false;
  const resolved = withWeights(source.path, async (weights) => {
    weights.requireFloats();
    isReadable = true;
    const { config } = withDefaults(loaded, valuesOf(weights.spec, shapes));
    const model = modelSpec(config, shapes, placeOf);
    requireReachable(weights.spec, model, source.path, placeOf);
    const of = source.manifest === null ? '' : `, the master weights of step ${source.manifest.step}`;
    const text = `weights of ${source.path}${of}`;
    return {
      config: { ...config, init: source.path, model: modelKeys(model) },
      model,
      start: `fresh, ${text}`,
      notes: [
        ...source.notes,
        `starting from the ${text}: ${describeModel(weights.spec)}`,
        ...otherFormulation(source, config),
      ],
      warnings: [],
    };
  });
  return await resolved.catch((error) => {
    throw isReadable ? error : aboutInit(error, placeOf('init'));
  });
}

/** The same error, which names the key. */
function aboutInit(error: unknown, place: string): unknown {
  if (!(error instanceof OrchestratorError)) return error;
  const { code, message, hint, also } = error;
  return new OrchestratorError(code, `init${place}: ${message}`, { hint, also, cause: error });
}

/** Weights of another formulation are a start like any other, but at first they answer another question. */
function otherFormulation({ manifest }: WeightsSource, { objective }: Config): string[] {
  if (manifest === null) return [];
  const { formulation } = storedConfig(manifest.config, 'the config of init').objective;
  if (formulation === objective.formulation) return [];
  return [`the weights of init were trained on ${formulation}; this run trains ${objective.formulation}`];
}

/** What weights give to a configuration that leaves it open. Widths are those of the data. */
function valuesOf(spec: ModelSpec, shapes: DatasetShapes) {
  const { latent_channels, context_dim, pooled_dim, ...rest } = modelKeys(spec);
  const grid = Math.max(spec.posEmbedMaxSize, gridOf(shapes.latent, spec.patch));
  const keys = { ...rest, pos_embed_max_size: grid };
  return Object.entries(keys).map(([key, value]) => ({ path: ['model', key], value }));
}

/** The file or folder of weights that `init` means; of a run or a checkpoint, the master weights. */
async function locateInit(init: string, place: string, thorough: boolean): Promise<WeightsSource> {
  try {
    return await locateWeights(init, 'master', thorough ? verifyCheckpoint : openCheckpoint);
  } catch (error) {
    if (!(error instanceof OrchestratorError) || error.code !== 'ERR_CHECKPOINT_MISSING') {
      throw aboutInit(error, place);
    }
    const missing = `there is nothing at ${resolve(withHome(init))}`;
    const message = existsSync(withHome(init)) ? `${error.message}, and it holds no weights` : missing;
    throw new OrchestratorError('ERR_FILE_OPEN', `init${place}: ${message}`, {
      hint: 'A safetensors file, an index of several, a diffusers folder, or the folder of a run; relative to the working directory',
      cause: error,
    });
  }
}

async function resumed(
  loaded: LoadedConfig,
  shapes: DatasetShapes,
  dataset: DescribedDataset | null,
  found: FoundCheckpoint,
  options: ResolveOptions,
) {
  const { path, manifest } = found;
  const { step } = manifest;
  const placeOf = placesOf(loaded);
  const stored = storedConfig(manifest.config, `the config in ${path}`);
  const then = { ...stored, model: modelKeys(manifest.modelSpec) };
  const kept = keepUnset(loaded, then);
  const plan = await planOnResume(found, then, kept.config, dataset, options);
  const model = modelSpec(kept.config, shapes, placeOf);
  const config = { ...kept.config, model: modelKeys(model) };
  const changes = changedKeys(then, { ...config, init: sameInit(then.init, config.init) });
  refuse(
    changes
      .filter(({ rule }) => rule.change === 'refused')
      .map((change) => refusal(change, found, placeOf(change.key))),
  );
  const told = (change: ChangedKey) => note(change, config, step, placeOf(change.key));
  const givesUp = ({ rule }: ChangedKey) => rule === EMA_OFF;
  return {
    // What did not count is not in effect.
    config: { ...config, init: then.init },
    model,
    segments: plan.segments,
    start: `resumed from ${path} (step ${step})`,
    notes: [
      `resuming from ${path} (step ${step})`,
      ...plan.notes,
      ...changes.filter((change) => !givesUp(change)).map(told),
    ],
    // Unlike other changes, this one cannot be taken back.
    warnings: [...plan.warnings, ...changes.filter(givesUp).map(told)],
  };
}

/** `init` names a run, and the configuration of the run's checkpoints the weights that were taken from it. */
function sameInit(then: string | null, now: string | null): string | null {
  if (then === null || now === null) return now;
  const [before, after] = [resolve(then), resolve(withHome(now))];
  return before === after || before.startsWith(`${after}/`) ? then : now;
}

function note(change: ChangedKey, config: Config, step: number, place: string): string {
  const { change: kind, why } = change.rule;
  const effect =
    kind === 'ignored'
      ? `ignored, because ${why}`
      : kind === 'same data'
        ? 'it must lead to the same data set, or to one that was corrected or extended'
        : why;
  const next = step + 1;
  const rate =
    change.key.startsWith('schedule.') && next <= config.schedule.steps
      ? `, ${quantity(learningRate(config, next))} at step ${next}`
      : '';
  return `${describeChange(change, step, place)}: ${effect}${rate}`;
}

function refusal(change: ChangedKey, { path, manifest }: FoundCheckpoint, place: string): OrchestratorError {
  const { key, before, rule } = change;
  const set = shellText(['--set', `${key}=${JSON.stringify(before) ?? 'null'}`]);
  const start = shellText(['--set', `init=${path}`]);
  return new OrchestratorError(
    'ERR_CHECKPOINT_MISMATCH',
    `${describeChange(change, manifest.step, place)}; it cannot change within a run: ${rule.why}`,
    rule.instead ??
      `Go on with ${set}, or start a new run from these weights with ${start} in another --run-dir`,
  );
}
