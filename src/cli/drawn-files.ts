/** The files of what `orchestrator sample` draws: latents, grids of pictures, single pictures. */
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { falseColours } from '../engine/preview.js';
import { OrchestratorError } from '../errors.js';
import { makeFolders, replaceFile, requireWritable } from '../files/io.js';
import { writeSafetensors } from '../formats/safetensors/write.js';
import { decodeLatents } from '../shapes/model.js';
import { writeEach, writeGrid } from '../shapes/pictures.js';
import { PICTURE_SIZE } from '../shapes/vocabulary.js';
import { counted } from '../text/quantities.js';
import { isLatentsPath } from './arguments.js';
import { dialect, printFields, printResult } from './output.js';

/** Where the files go, and how the grid is laid out. */
export interface Places {
  out: string;
  preview?: string;
  each?: string;
  columns?: number;
  json?: true;
}

/** Latents [count, C, H, W], as the model sees them. */
interface Drawn {
  latents: Float32Array;
  shape: readonly [number, number, number];
  labels: string[];
  /** What each was drawn for: its prompt, or its row and that row's id. */
  origins: { prompt: string }[] | { row: number; id: string }[];
  /** Whether they are of the shapes world, whose decoder gives true colours. */
  isShapes: boolean;
  /** About the latents, for a file of them. */
  facts: Record<string, string | number | bigint>;
}

/** Refuses places that cannot be written to, before anything is drawn. */
export function requirePlaces({ out, preview, each }: Places): void {
  if (preview !== undefined && !isLatentsPath(out)) {
    throw new OrchestratorError('ERR_USAGE', `--preview needs the latents in --out, and ${out} is a picture`);
  }
  for (const path of [out, preview]) {
    if (path === undefined) continue;
    if (each !== undefined && isInside(each, path)) {
      throw new OrchestratorError('ERR_USAGE', `${path} is in ${each}, the folder of --each`, {
        hint: 'Programs that read single pictures would take it for one of them: name another place',
      });
    }
    requireWritable(path);
  }
  if (each !== undefined) requireEmptyFolder(each);
}

function isInside(folder: string, path: string): boolean {
  const way = relative(resolve(folder), resolve(path));
  return way !== '..' && !way.startsWith('../');
}

/** Pictures of another time among the new ones would be taken for those. */
function requireEmptyFolder(path: string): void {
  requireWritable(join(path, '0000.png'));
  if (existsSync(path) && readdirSync(path).length > 0)
    throw new OrchestratorError('ERR_FILE_WRITE', `${path}: this folder is not empty`, {
      hint: 'name another one, or remove what is in it',
    });
}

/** A file that was written, and what is in it. */
interface Written {
  path: string;
  kind: 'latents' | 'pictures';
  count: number;
  /** The shape [C, H, W] of one latent, or [width, height] of the grid of pictures, or of each. */
  size: readonly number[];
  /** Whether the pictures are what the latents mean; false for a preview in false colours. */
  decoded: boolean | null;
  /** Whether there was a file of this name. */
  replaced: boolean;
}

/** Writes what was drawn to where the options say, and prints which files there are now. */
export async function writeDrawn(drawn: Drawn, { out, preview, each, columns, json }: Places): Promise<void> {
  const grid = isLatentsPath(out) ? preview : out;
  const files: Written[] = [];
  if (isLatentsPath(out)) files.push(await writeLatents(drawn, out));
  if (grid !== undefined || each !== undefined) {
    const pictures = picturesOf(drawn);
    if (grid !== undefined) files.push(await writeLabelled(drawn, pictures, grid, columns ?? null));
    if (each !== undefined) files.push(await writeSingle(drawn, pictures, each));
  }
  if (json) printResult({ ...drawn.facts, files }, json, () => '');
  else for (const file of files) printFields(describeWritten(file));
}

function describeWritten({ path, kind, count, size, decoded, replaced }: Written): string {
  return [
    path,
    counted(count, kind === 'latents' ? 'latent' : 'picture'),
    size.join(' x '),
    ...(decoded === false ? ['a preview in false colours, not decoded'] : []),
    ...(replaced ? ['replaces the file of this name'] : []),
  ].join(' | ');
}

async function writeLatents({ latents, shape, labels, facts }: Drawn, out: string): Promise<Written> {
  const replaced = existsSync(out);
  const metadata = Object.fromEntries(Object.entries(facts).map(([key, value]) => [key, String(value)]));
  await makeFolders(dirname(out));
  const tensor = {
    name: 'latents',
    dtype: 'F32' as const,
    shape: [labels.length, ...shape],
    data: latents,
  };
  await replaceFile(out, (path) => writeSafetensors(path, [tensor], metadata));
  return { path: out, kind: 'latents', count: labels.length, size: shape, decoded: null, replaced };
}

/** The size of a picture: of the shapes world's, which are decoded, or of a preview, a pixel for each of the latent's. */
function sizeOf({ isShapes, shape }: Drawn): { width: number; height: number } {
  return isShapes ? { width: PICTURE_SIZE, height: PICTURE_SIZE } : { width: shape[2], height: shape[1] };
}

/** A picture [height, width, 3] of each latent. */
function picturesOf({ latents, shape, labels, isShapes }: Drawn): Uint8Array[] {
  if (isShapes) return decodeLatents(latents);
  const size = latents.length / labels.length;
  return labels.map((_, i) => falseColours(latents, shape, i * size));
}

async function writeLabelled(
  drawn: Drawn,
  pictures: readonly Uint8Array[],
  path: string,
  columns: number | null,
): Promise<Written> {
  const replaced = existsSync(path);
  const labelled = pictures.map((pixels, i) => ({ pixels, label: drawn.labels[i]! }));
  const { width, height } = await writeGrid(labelled, path, { columns, size: sizeOf(drawn) });
  const [count, size, decoded] = [pictures.length, [width, height], drawn.isShapes];
  return { path, kind: 'pictures', count, size, decoded, replaced };
}

async function writeSingle(drawn: Drawn, pictures: readonly Uint8Array[], path: string): Promise<Written> {
  const size = sizeOf(drawn);
  const { origins, facts } = drawn;
  const single = pictures.map((pixels, i) => {
    const origin = dialect({ ...origins[i]!, seed: facts.seed }) as object;
    return { pixels, origin };
  });
  await writeEach(single, path, size);
  const [count, decoded] = [pictures.length, drawn.isShapes];
  return { path, kind: 'pictures', count, size: [size.width, size.height], decoded, replaced: false };
}
