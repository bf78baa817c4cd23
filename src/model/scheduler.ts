/** What sampling must know besides the tensors: diffusers keeps it in a scheduler's configuration. */
import { readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { makeFolders, writeDurably } from '../files/io.js';
import { isMapping, type Mapping } from '../files/json.js';
import type { Weights } from './weights.js';

/** What a model was trained for. */
export interface Training {
  /** A name of `objective.formulation`: "rf". */
  formulation: string;
  /** Resolution shift alpha. */
  shift: number;
}

/** What any loader expects, and how to sample, as the metadata of a file of weights. */
export function metadataOf(training: Training | null): Record<string, string> {
  if (training === null) return { format: 'pt' };
  return {
    ...{ format: 'pt', formulation: training.formulation, shift: String(training.shift) },
    null_condition: 'zeros in place of all text features, the pooled ones too',
  };
}

/**
 * What weights say about their training: the metadata of their file, or the scheduler of the pipeline that
 * their path is, or is in. Null if nothing does.
 */
export async function statedTraining(
  { files }: Pick<Weights, 'files'>,
  path: string,
): Promise<Training | null> {
  const formulation = files.metadata.get('formulation');
  const shift = Number(files.metadata.get('shift'));
  if (formulation !== undefined && isShift(shift)) return { formulation, shift };
  const above = dirname(resolve(path));
  for (const folder of [resolve(path), above, dirname(above)]) {
    const config = await readScheduler(join(folder, SCHEDULER));
    if (isShift(config?.shift)) return { formulation: 'rf', shift: config.shift };
  }
  return null;
}

const SCHEDULER = join('scheduler', 'scheduler_config.json');

/** Steps of the table of times from which diffusers' scheduler starts; the conditioning timestep is 1000 t. */
const TRAIN_TIMESTEPS = 1000;

/**
 * Writes diffusers' scheduler for rectified flow with a shift: beside a folder that is called `transformer`,
 * as in a pipeline, and into any other. One that is there is kept.
 *
 * @returns its path, and its shift.
 */
export async function writeScheduler(
  folder: string,
  shift: number,
): Promise<{ path: string; shift: unknown }> {
  const isPart = basename(resolve(folder)) === 'transformer';
  const path = join(isPart ? dirname(resolve(folder)) : folder, SCHEDULER);
  const found = await readScheduler(path);
  if (found !== null) return { path, shift: found.shift };
  const config = {
    _class_name: 'FlowMatchEulerDiscreteScheduler',
    num_train_timesteps: TRAIN_TIMESTEPS,
    shift,
  };
  await makeFolders(dirname(path));
  await writeDurably(path, `${JSON.stringify(config, null, 2)}\n`);
  return { path, shift };
}

function isShift(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value > 0;
}

/** A scheduler's configuration; null if there is none, or it is not readable. */
async function readScheduler(path: string): Promise<Mapping | null> {
  try {
    const config: unknown = JSON.parse(await readFile(path, 'utf8'));
    return isMapping(config) ? config : null;
  } catch {
    return null;
  }
}
