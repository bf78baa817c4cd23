/** Open weights of a model, read under the official names. */
import { OrchestratorError } from '../errors.js';
import { isMapping } from '../files/json.js';
import type { Dtype } from '../formats/safetensors/dtype.js';
import type { Safetensors } from '../formats/safetensors/file.js';
import { quoted, requireFloat } from '../formats/safetensors/header.js';
import type { ModelSpec } from '../native/contract.js';
import { invert, type Piece } from './assembly.js';
import { diffusersLayout, fileTensors, officialTensors } from './backbones.js';
import { openFiles } from './files.js';
import { describeSkipped, type ModelTensors, modelSpecFromTensors, modelTensors } from './recognise.js';

/** Open weights, read under the official names regardless of the names in the file. */
export class Weights {
  readonly files: Safetensors;
  readonly tensors: ModelTensors;
  readonly spec: ModelSpec;
  /** Sentences about skipped parts of the file. */
  readonly notes: readonly string[];
  /** The rows of each official tensor in the files. Keys are official names without prefix. */
  readonly pieces: ReadonlyMap<string, readonly Piece[]>;

  /** Recognises the model whose weights the files hold, under official or diffusers' names. */
  constructor(files: Safetensors) {
    this.files = files;
    this.tensors = modelTensors(files.tensors, files.path);
    const { shapes, format, names, skipped } = this.tensors;
    this.spec = modelSpecFromTensors(shapes, files.path, format);
    this.notes = describeSkipped(skipped);
    const inFile = (piece: Piece) => ({ ...piece, tensor: names.get(piece.tensor)! });
    const assemblies = invert(fileTensors(this.spec, format), officialTensors(this.spec));
    this.pieces = new Map(assemblies.map(({ name, pieces }) => [name, pieces.map(inFile)]));
  }

  /** Opens a file, an index of several files, or diffusers' folder; see openFiles. */
  static async open(path: string): Promise<Weights> {
    const { tensors, config } = await openFiles(path);
    try {
      const weights = new Weights(tensors);
      if (config !== null && weights.tensors.format === 'diffusers') {
        checkConfig(config.value, weights.spec, config.path);
      }
      return weights;
    } catch (error) {
      await tensors.close();
      throw error;
    }
  }

  /** Reads an official tensor as fp32 into an array of exactly its elements. */
  async read(name: string, into: Float32Array): Promise<void> {
    let at = 0;
    for (const { tensor, firstRow, rows } of this.pieces.get(name)!) {
      const { shape, elements } = this.files.tensors.get(tensor)!;
      const row = elements / shape[0]!;
      await this.readElements(tensor, firstRow * row, into.subarray(at, at + rows * row));
      at += rows * row;
    }
  }

  /** Reads a range of the elements of a file's tensor as fp32, multiplied by the tensor's scale if it has one. */
  async readElements(tensor: string, first: number, into: Float32Array): Promise<void> {
    await this.files.readElements(tensor, first, into);
    const scaledBy = this.tensors.scales.get(tensor);
    if (scaledBy === undefined) return;
    const scale = await this.files.read(scaledBy);
    const { shape, elements } = this.files.entry(tensor);
    const elementsPerScale = scale.length === 1 ? elements : elements / shape[0]!;
    for (let i = 0; i < into.length; i++) into[i]! *= scale[Math.floor((first + i) / elementsPerScale)]!;
  }

  /** The type that holds the values of a file's tensor: its own, or fp32 if it is scaled. */
  typeOf(tensor: string): Dtype {
    return this.tensors.scales.has(tensor) ? 'F32' : this.files.entry(tensor).dtype;
  }

  /** Checks that every tensor can be converted, before anything is changed. */
  requireFloats(): void {
    const { path } = this.files;
    for (const tensor of this.tensors.names.values()) {
      const entry = this.files.entry(tensor);
      requireFloat(entry, path);
      const scaledBy = this.tensors.scales.get(tensor);
      if (scaledBy === undefined) continue;
      const scale = this.files.entry(scaledBy);
      requireFloat(scale, path);
      if (scale.elements === 1 || (scale.elements === entry.shape[0] && scale.shape[0] === scale.elements))
        continue;
      throw new OrchestratorError(
        'ERR_MODEL_TENSORS',
        `${path}: ${quoted(scaledBy)} has the shape [${scale.shape.join(', ')}]; expected one scale, or one for each of ${entry.shape[0]} rows`,
        'Scales of blocks are not supported: take weights in F16 or BF16',
      );
    }
  }

  async close(): Promise<void> {
    await this.files.close();
  }
}

/** Opens weights, calls `work` with them, and closes them. */
export async function withWeights<T>(path: string, work: (weights: Weights) => Promise<T>): Promise<T> {
  const weights = await Weights.open(path);
  try {
    return await work(weights);
  } finally {
    await weights.close();
  }
}

/** The meaning of keys that older files omit. */
const ABSENT: Record<string, unknown> = { dual_attention_layers: [], qk_norm: null, out_channels: null };

/** Compares a diffusers folder's config.json with the model that its tensors describe. */
export function checkConfig(value: unknown, spec: ModelSpec, path: string): void {
  if (!isMapping(value)) throw new OrchestratorError('ERR_MODEL_TENSORS', `${path}: expected a JSON object`);
  const lines: string[] = [];
  for (const [key, expected] of Object.entries(diffusersLayout(spec).config(spec))) {
    const seen = key in value ? value[key] : ABSENT[key];
    // Without out_channels, in_channels applies.
    if (key === 'out_channels' && seen === null) continue;
    const text = JSON.stringify(seen) ?? 'nothing';
    if (text !== JSON.stringify(expected)) {
      lines.push(`  ${key} is ${text.slice(0, 200)}; the tensors say ${JSON.stringify(expected)}`);
    }
  }
  if (lines.length === 0) return;
  const what = `the configuration does not match the tensors in the folder\n${lines.join('\n')}`;
  throw new OrchestratorError('ERR_MODEL_TENSORS', `${path}: ${what}`);
}
