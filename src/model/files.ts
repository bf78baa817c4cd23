/** Finds and opens weights: a file, an index of several files, or a folder in diffusers' format. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { readFailure } from '../files/io.js';
import { Safetensors } from '../formats/safetensors/file.js';
import { INDEX_SUFFIX } from '../formats/safetensors/shard-index.js';

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
  const own = names.some((name) => name.endsWith('.safetensors') || name.endsWith(INDEX_SUFFIX));
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

/** The file of a folder to open. */
function weightsIn(folder: string, names: readonly string[]): string {
  const indices = names.filter((name) => name.endsWith(INDEX_SUFFIX));
  const files = names.filter((name) => name.endsWith('.safetensors'));
  const usual = [DIFFUSERS_STEM + INDEX_SUFFIX, `${DIFFUSERS_STEM}.safetensors`];
  for (const name of usual) if (names.includes(name)) return join(folder, name);
  for (const choice of [indices, files]) if (choice.length === 1) return join(folder, choice[0]!);
  const seen = [...indices, ...files].slice(0, LISTED).join(', ');
  throw new OrchestratorError(
    'ERR_FILE_OPEN',
    `${folder} holds ${indices.length + files.length} files of weights${seen === '' ? '' : ` (${seen})`}; expected ${usual.join(' or ')}, or a single other one`,
  );
}

async function readConfig(path: string): Promise<{ path: string; value: unknown }> {
  try {
    return { path, value: JSON.parse(await readFile(path, 'utf8')) };
  } catch (error) {
    throw readFailure('read', path, error);
  }
}
