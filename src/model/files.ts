/** Finds and opens weights: a file, an index of several files, or a folder in diffusers' format. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { readFailure } from '../files/io.js';
import { Safetensors } from '../formats/safetensors/file.js';
import { INDEX_SUFFIX, isIndex } from '../formats/safetensors/shard-index.js';
import { shortened } from '../text/shortened.js';

/** diffusers' name for the weights in a model's folder. */
export const DIFFUSERS_STEM = 'diffusion_pytorch_model';
export const CONFIG_FILE = 'config.json';
/** Files listed in an error. */
const LISTED = 10;

interface WeightsFiles {
  tensors: Safetensors;
  /** The folder's parsed config.json with its path; null for single files. */
  config: { path: string; value: unknown } | null;
}

/**
 * The folder in which a folder's weights lie, given its names: its `transformer` if it is a whole diffusers
 * pipeline, or was written like one; itself if it holds weights; otherwise null.
 */
export function weightsFolder(folder: string, names: readonly string[]): string | null {
  const own = names.some((name) => name.endsWith('.safetensors') || isIndex(name));
  const pipeline = names.includes('model_index.json') || !own;
  if (pipeline && names.includes('transformer')) return join(folder, 'transformer');
  return own ? folder : null;
}

/**
 * Opens the weights at a path: a safetensors file, a `*.safetensors.index.json`, or a folder with either. For
 * the folder of a whole diffusers pipeline, its `transformer` is opened.
 */
export async function openFiles(path: string): Promise<WeightsFiles> {
  const found = await stat(path).catch(() => null);
  if (!found?.isDirectory()) return { tensors: await Safetensors.open(path), config: null };
  const names = await readdir(path).catch((error) => {
    throw readFailure('list', path, error);
  });
  const folder = weightsFolder(path, names);
  if (folder !== null && folder !== path) return await openFiles(folder);
  const config = names.includes(CONFIG_FILE) ? await readConfig(join(path, CONFIG_FILE)) : null;
  return { tensors: await Safetensors.open(weightsIn(path, names)), config };
}

/** A file of a sharded set, which an index joins. */
const SHARD = /-\d{5}-of-\d{5}\.safetensors$/;

/**
 * The file of a folder to open: that with diffusers' usual name, otherwise the only one. Variants have a word
 * in their names, such as `diffusion_pytorch_model.fp16.safetensors` and `...safetensors.index.fp16.json`.
 */
function weightsIn(folder: string, names: readonly string[]): string {
  const indices = names.filter(isIndex);
  const files = names.filter((name) => name.endsWith('.safetensors'));
  const usual = [DIFFUSERS_STEM + INDEX_SUFFIX, `${DIFFUSERS_STEM}.safetensors`];
  for (const name of usual) if (names.includes(name)) return join(folder, name);
  const whole = [...indices, ...files.filter((name) => !SHARD.test(name))];
  if (whole.length === 1) return join(folder, whole[0]!);
  const seen = shortened([...indices, ...files], LISTED).join(', ');
  const other = OTHER_MODELS.find((name) => names.includes(name));
  throw new OrchestratorError(
    'ERR_FILE_OPEN',
    whole.length === 0 && files.length > 0
      ? `${folder} holds parts of weights (${seen}) without their index, *${INDEX_SUFFIX}`
      : `${folder} holds ${whole.length} files of weights${seen === '' ? '' : ` (${seen})`}; expected ${usual.join(' or ')}, or a single other one`,
    whole.length > 1
      ? 'Name the file itself'
      : other === undefined
        ? null
        : `It has a folder ${other}: a pipeline with another model than the MM-DiT, which would be in transformer`,
  );
}

/** Folders of the diffusion models of other pipelines. */
const OTHER_MODELS = ['unet', 'prior'];

async function readConfig(path: string): Promise<{ path: string; value: unknown }> {
  try {
    return { path, value: JSON.parse(await readFile(path, 'utf8')) };
  } catch (error) {
    throw readFailure('read', path, error);
  }
}
