/** Converts weights from one layout to another, tensor by tensor, because files may be larger than memory. */
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { createFolder, errnoOf, replaceFile, uniqueSuffix, writeDurably, writeFailure } from '../files/io.js';
import {
  convertFromFloat32,
  DTYPE_BYTES,
  type Dtype,
  type OutputDtype,
} from '../formats/safetensors/dtype.js';
import { INDEX_SUFFIX } from '../formats/safetensors/shard-index.js';
import { sourceBytes, type TensorSource, writeSafetensors } from '../formats/safetensors/write.js';
import type { Assembly } from './assembly.js';
import { diffusersLayout, type Format, fileTensors } from './backbones.js';
import { CONFIG_FILE, DIFFUSERS_STEM } from './files.js';
import { metadataOf, type Training } from './scheduler.js';
import { OFFICIAL_PREFIX } from './tensors.js';
import type { Weights } from './weights.js';

export interface TransferOptions {
  format: Format;
  /** Element type of the written tensors; null keeps each tensor's type. */
  dtype: OutputDtype | null;
  /** Largest number of tensor bytes in a file; null = one file. Only for diffusers' folders. */
  shardBytes: number | null;
  /** Side of the latents that the model was trained on, for diffusers' config.json. */
  sampleSize: number;
  /** Null where it is not known. */
  training: Training | null;
}

/** Number of elements converted at a time. */
const CHUNK = 1 << 18;

/**
 * Writes weights as `format` to `path`: an official file (names with prefix), or diffusers' folder with
 * config.json. An existing file is replaced only when the new one is complete; a folder must be new or empty.
 *
 * @returns the number of tensors, the size of all files, and the SHA-256 of each file by its name.
 */
export async function writeWeights(weights: Weights, path: string, options: TransferOptions) {
  if (options.dtype !== null || weights.tensors.scales.size > 0) weights.requireFloats();
  const sources = tensorSources(weights, options);
  if (options.format === 'diffusers') return await writeFolder(weights, path, sources, options);
  const { bytes, sha256 } = await replaceFile(path, (file) =>
    writeSafetensors(file, sources, metadataOf(options.training)),
  );
  return { tensors: sources.length, bytes, sha256: new Map([[path, sha256]]) };
}

/** The tensors of the wanted layout, as streams from the files of weights. */
function tensorSources(weights: Weights, { format, dtype }: TransferOptions): TensorSource[] {
  const prefix = format === 'official' ? OFFICIAL_PREFIX : '';
  return fileTensors(weights.spec, format).map((assembly) => {
    const parts = filePieces(weights, assembly);
    const found = new Set(parts.map(({ type }) => type));
    // Pieces of different types can be joined only as fp32.
    const type = dtype ?? (found.size === 1 ? parts[0]!.type : 'F32');
    return {
      name: prefix + assembly.name,
      dtype: type,
      shape: assembly.shape,
      data: () => stream(weights, parts, type),
    };
  });
}

/** A range of elements of a tensor in a file. */
interface FilePiece {
  tensor: string;
  first: number;
  count: number;
  type: Dtype;
}

/** The official rows of an assembly, as elements of the files' tensors. */
function filePieces(weights: Weights, assembly: Assembly): FilePiece[] {
  return assembly.pieces.flatMap(({ tensor, firstRow, rows }) => {
    const pieces: FilePiece[] = [];
    let row = 0;
    for (const part of weights.pieces.get(tensor)!) {
      const from = Math.max(firstRow, row);
      const to = Math.min(firstRow + rows, row + part.rows);
      if (from < to) {
        const { shape, elements } = weights.files.tensors.get(part.tensor)!;
        const size = elements / shape[0]!;
        const first = (part.firstRow + from - row) * size;
        pieces.push({
          tensor: part.tensor,
          first,
          count: (to - from) * size,
          type: weights.typeOf(part.tensor),
        });
      }
      row += part.rows;
    }
    return pieces;
  });
}

async function* stream(
  weights: Weights,
  pieces: readonly FilePiece[],
  type: Dtype,
): AsyncGenerator<Uint8Array> {
  const { files } = weights;
  const values = new Float32Array(CHUNK);
  const bytes = new Uint8Array(CHUNK * 8);
  for (const piece of pieces) {
    const width = DTYPE_BYTES[piece.type];
    for (let at = 0; at < piece.count; at += CHUNK) {
      const count = Math.min(CHUNK, piece.count - at);
      const out = bytes.subarray(0, count * DTYPE_BYTES[type]);
      if (piece.type === type && !weights.tensors.scales.has(piece.tensor)) {
        await files.readBytes(piece.tensor, (piece.first + at) * width, out);
      } else {
        const chunk = values.subarray(0, count);
        await weights.readElements(piece.tensor, piece.first + at, chunk);
        const overflows = convertFromFloat32(type as OutputDtype, chunk, out);
        if (overflows > 0) {
          throw new OrchestratorError(
            'ERR_MODEL_TENSORS',
            `${files.path}: tensor "${piece.tensor}" holds values too large for ${type}`,
            'Choose --dtype BF16 or F32',
          );
        }
      }
      yield out;
    }
  }
}

async function writeFolder(
  weights: Weights,
  path: string,
  sources: readonly TensorSource[],
  options: TransferOptions,
) {
  await requireEmpty(path);
  const temporary = `${resolve(path)}.tmp-${uniqueSuffix()}`;
  return createFolder(path, temporary, async () => {
    const shards = shardsOf(sources, options.shardBytes);
    const result = await writeShards(temporary, shards, metadataOf(options.training));
    const config = { ...diffusersLayout(weights.spec).config(weights.spec), sample_size: options.sampleSize };
    await writeDurably(join(temporary, CONFIG_FILE), `${JSON.stringify(config, null, 2)}\n`);
    return result;
  });
}

async function requireEmpty(path: string): Promise<void> {
  const names = await readdir(path).catch((error) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw writeFailure(path, error);
  });
  if (names.length === 0) return;
  throw new OrchestratorError(
    'ERR_FILE_WRITE',
    `Cannot write ${path}: it is a folder with files in it`,
    'Choose a new folder',
  );
}

/**
 * Distributes the tensors in order over files of at most `limit` bytes; a larger tensor has a file of its
 * own.
 */
function shardsOf(sources: readonly TensorSource[], limit: number | null): TensorSource[][] {
  const shards: TensorSource[][] = [[]];
  let bytes = 0;
  for (const source of sources) {
    const size = sourceBytes(source);
    if (limit !== null && bytes > 0 && bytes + size > limit) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(source);
    bytes += size;
  }
  return shards;
}

async function writeShards(
  folder: string,
  shards: readonly TensorSource[][],
  metadata: Readonly<Record<string, string>>,
) {
  const number = (n: number) => String(n).padStart(5, '0');
  const sha256 = new Map<string, string>();
  const weightMap: Record<string, string> = {};
  let bytes = 0;
  for (const [i, tensors] of shards.entries()) {
    const suffix = shards.length === 1 ? '' : `-${number(i + 1)}-of-${number(shards.length)}`;
    const file = `${DIFFUSERS_STEM}${suffix}.safetensors`;
    const written = await writeSafetensors(join(folder, file), tensors, metadata);
    sha256.set(file, written.sha256);
    bytes += written.bytes;
    for (const { name } of tensors) weightMap[name] = file;
  }
  const all = shards.flat();
  if (shards.length > 1) {
    const total = all.reduce((sum, source) => sum + sourceBytes(source), 0);
    const index = { metadata: { total_size: total }, weight_map: weightMap };
    await writeDurably(join(folder, DIFFUSERS_STEM + INDEX_SUFFIX), `${JSON.stringify(index, null, 2)}\n`);
  }
  return { tensors: all.length, bytes, sha256 };
}
