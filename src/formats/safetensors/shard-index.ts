/** Safetensors split into several files, with an index that says which tensor is in which file. */
import { dirname, join } from 'node:path';
import { readWhole } from '../../files/io.js';
import { isMapping } from '../../files/json.js';
import { shortened } from '../../text/shortened.js';
import { malformed, quoted } from './header.js';
import { type OpenFile, openFile } from './open.js';

export const INDEX_SUFFIX = '.safetensors.index.json';

/** Whether a name is that of an index; diffusers puts the name of a variant before the last dot. */
export function isIndex(name: string): boolean {
  return /\.safetensors\.index(?:\.[\w-]+)?\.json$/.test(name);
}

/** Limit for the index, the same as for a header. */
const MAX_INDEX_BYTES = 100_000_000;
const MAX_FILES = 10_000;
/** Problems listed in an error. */
const LISTED = 20;

/**
 * Opens an index (`{"weight_map": {tensor: file}}`) and all its files, which are in the same folder.
 *
 * @returns the file of each tensor, in the order of the index.
 */
export async function openIndex(path: string): Promise<Map<string, OpenFile>> {
  const tooLarge = (bytes: number) => malformed(path, `an index of ${bytes} bytes is too large`);
  const text = new TextDecoder().decode(await readWhole(path, MAX_INDEX_BYTES, tooLarge));
  const map = parseIndex(text, path);
  const files = new Map<string, OpenFile>();
  try {
    for (const file of new Set(map.values())) files.set(file, await openFile(join(dirname(path), file)));
    checkIndex(map, files, path);
    return new Map([...map].map(([name, file]) => [name, files.get(file)!]));
  } catch (error) {
    for (const { handle } of files.values()) await handle.close();
    throw error;
  }
}

/** The file of each tensor. Files must be plain names, so that an index cannot lead outside its folder. */
function parseIndex(text: string, path: string): Map<string, string> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw malformed(path, `the index is not JSON: ${(error as Error).message}`);
  }
  const weightMap = isMapping(parsed) ? parsed.weight_map : undefined;
  if (!isMapping(weightMap)) throw malformed(path, 'the index has no "weight_map" from tensors to files');
  const map = new Map<string, string>();
  for (const [name, file] of Object.entries(weightMap)) {
    if (typeof file !== 'string' || !/^[^/\\\0]+\.safetensors$/.test(file)) {
      const found = JSON.stringify(file) ?? String(file);
      throw malformed(
        path,
        `tensor ${quoted(name)} is listed in ${found.slice(0, 200)}; expected the name of a .safetensors file in the index's folder`,
      );
    }
    map.set(name, file);
  }
  const files = new Set(map.values()).size;
  if (files === 0 || files > MAX_FILES) {
    throw malformed(path, `the index names ${files} files; expected 1 to ${MAX_FILES}`);
  }
  return map;
}

function checkIndex(
  map: ReadonlyMap<string, string>,
  files: ReadonlyMap<string, OpenFile>,
  path: string,
): void {
  const problems: string[] = [];
  for (const [name, file] of map) {
    if (!files.get(file)?.tensors.has(name)) problems.push(`${quoted(name)} is not in ${file}`);
  }
  for (const [file, { tensors }] of files) {
    for (const name of tensors.keys()) {
      if (map.get(name) !== file) problems.push(`${quoted(name)} of ${file} is not in the index`);
    }
  }
  if (problems.length === 0) return;
  const what = `the index and its files disagree about ${problems.length} tensors`;
  throw malformed(path, [what, ...shortened(problems, LISTED)].join('\n  '));
}
