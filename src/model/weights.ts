/** Open weights of a model, read under the official names. */
import { OrchestratorError } from '../errors.js';
import { isMapping } from '../files/json.js';
import { isFloat } from '../formats/safetensors/dtype.js';
import type { Safetensors } from '../formats/safetensors/file.js';
import type { ModelSpec } from '../native/contract.js';
import { type Assembly, identity, invert, type Piece } from './assembly.js';
import { diffusersLayout, diffusersTensors, officialTensors } from './backbones.js';
import { openFiles } from './files.js';
import { describeSkipped, type ModelTensors, modelSpecFromTensors, modelTensors } from './recognise.js';

export interface WeightsDescription {
  spec: ModelSpec;
  tensors: ModelTensors;
  /** A sentence about skipped parts of the file, or null. */
  note: string | null;
}

/** Recognises the model whose weights a file holds, under official or diffusers' names. */
export function describeWeights(file: Pick<Safetensors, 'tensors' | 'path'>): WeightsDescription {
  const tensors = modelTensors(file.tensors, file.path);
  const spec = modelSpecFromTensors(tensors.shapes, file.path, tensors.format);
  return { spec, tensors, note: describeSkipped(tensors.skipped) };
}

/** Open weights, read under the official names regardless of the names in the file. */
export class Weights {
  /** The pieces of each tensor, under the file's names; keys are official names without prefix. */
  readonly #assemblies: ReadonlyMap<string, Assembly>;
  readonly files: Safetensors;
  readonly description: WeightsDescription;

  private constructor(files: Safetensors, description: WeightsDescription) {
    this.files = files;
    this.description = description;
    const { spec, tensors } = description;
    const official = officialTensors(spec);
    const assemblies =
      tensors.format === 'official' ? identity(official) : invert(diffusersTensors(spec), official);
    const inFile = (piece: Piece) => ({ ...piece, tensor: tensors.names.get(piece.tensor)! });
    this.#assemblies = new Map(
      assemblies.map((assembly) => [assembly.name, { ...assembly, pieces: assembly.pieces.map(inFile) }]),
    );
  }

  /** Opens a file, an index of several files, or diffusers' folder; see openFiles. */
  static async open(path: string): Promise<Weights> {
    const { tensors, config } = await openFiles(path);
    try {
      const description = describeWeights(tensors);
      if (config !== null && description.tensors.format === 'diffusers') {
        checkConfig(config.value, description.spec, config.path);
      }
      return new Weights(tensors, description);
    } catch (error) {
      await tensors.close();
      throw error;
    }
  }

  get path(): string {
    return this.files.path;
  }

  get spec(): ModelSpec {
    return this.description.spec;
  }

  /** Whether the weights include an official tensor. */
  has(name: string): boolean {
    return this.#assemblies.has(name);
  }

  /** The location of an official tensor's rows in the files. */
  pieces(name: string): readonly Piece[] {
    const assembly = this.#assemblies.get(name);
    if (assembly !== undefined) return assembly.pieces;
    throw new OrchestratorError('ERR_INTERNAL', `${this.path}: no model has a tensor ${name}`);
  }

  /** Reads an official tensor as fp32 into an array of exactly its elements. */
  async read(name: string, into: Float32Array): Promise<void> {
    let at = 0;
    for (const { tensor, firstRow, rows } of this.pieces(name)) {
      const { shape, elements } = this.files.tensors.get(tensor)!;
      const row = elements / shape[0]!;
      await this.files.readElements(tensor, firstRow * row, into.subarray(at, at + rows * row));
      at += rows * row;
    }
  }

  /** Checks that every tensor can be converted, before anything is changed. */
  requireFloats(): void {
    for (const { pieces } of this.#assemblies.values()) {
      for (const { tensor } of pieces) {
        const { dtype } = this.files.tensors.get(tensor)!;
        if (isFloat(dtype)) continue;
        throw new OrchestratorError(
          'ERR_SAFETENSORS',
          `${this.path}: tensor "${tensor}" is of type ${dtype}; expected F32, F16, BF16 or F64`,
        );
      }
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
