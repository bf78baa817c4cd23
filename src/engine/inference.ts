/** Opens an engine for inference from a checkpoint, or from weights alone. */
import { readdir, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type CheckpointManifest, EMA_FILE, MANIFEST, MODEL_FILE } from '../checkpoint/manifest.js';
import { resolveCheckpoint } from '../checkpoint/resume.js';
import { OrchestratorError } from '../errors.js';
import { Weights } from '../model/weights.js';
import type { Engine, EngineSpec, TextSpec } from '../native/contract.js';
import { findGpu } from '../native/cuda.js';
import { native } from '../native/load.js';
import { loadWeights } from './load.js';
import { requireMemory } from './memory.js';
import { GPU, resolvePrecision } from './precision.js';

export interface InferenceOptions {
  /** Which weights of a checkpoint to use; a file of weights has only one kind. */
  weights: 'ema' | 'master';
  /** Latent [height, width] to run at; null = that of the training. */
  latentSize: [number, number] | null;
  /** Context tokens M; null = those of the training. */
  contextTokens: number | null;
  /** Samples that a thread computes at once. */
  microBatch: number;
  /** Compute threads; null = one per processor. */
  threads: number | null;
  precision: 'auto' | 'fp32' | 'bf16';
  device: 'cpu' | 'cuda';
}

export interface InferenceModel {
  /** Its weights are master weights: `predict(batch, 'master')`. */
  engine: Engine;
  spec: EngineSpec;
  /** The checkpoint's manifest, or null for weights alone. */
  manifest: CheckpointManifest | null;
  text: TextSpec | null;
  /** Path of the weights. */
  path: string;
  /** Sentences for the user: skipped tensors and damaged checkpoints. */
  notes: string[];
  close(): Promise<void>;
}

export interface WeightsSource {
  /** Path for Weights.open. */
  path: string;
  /** The checkpoint's manifest, or null for weights alone. */
  manifest: CheckpointManifest | null;
  notes: string[];
}

/**
 * Whether a path leads to weights alone: a file, or a folder with weights and without a checkpoint's
 * manifest.
 */
async function isWeights(path: string): Promise<boolean> {
  try {
    if ((await stat(path)).isFile()) return true;
    const names = await readdir(path);
    return (
      !names.includes(MANIFEST) &&
      names.some((name) => name === 'model_index.json' || /\.safetensors(\.index\.json)?$/.test(name))
    );
  } catch {
    return false;
  }
}

/**
 * Finds the weights at a path: a checkpoint's folder, a run's folder (its latest valid checkpoint), or
 * weights alone (see openFiles). Checkpoints are verified.
 *
 * @throws OrchestratorError ERR_CHECKPOINT_MISSING, ERR_CHECKPOINT_DAMAGED, ERR_CHECKPOINT_MISMATCH: the
 *   checkpoint has no EMA.
 */
export async function locateWeights(path: string, weights: 'ema' | 'master'): Promise<WeightsSource> {
  if (await isWeights(path)) return { path, manifest: null, notes: [] };
  const { path: folder, manifest, damaged } = await resolveCheckpoint(path);
  const name = weights === 'ema' ? EMA_FILE : MODEL_FILE;
  if (manifest.files[name] === undefined) {
    throw new OrchestratorError(
      'ERR_CHECKPOINT_MISMATCH',
      `${folder} holds no ${name}: its run kept no EMA`,
      'Use the master weights',
    );
  }
  const notes = damaged.map(
    ({ path: other, reason }) => `Skipped the damaged checkpoint ${other}: ${reason}`,
  );
  return { path: join(folder, name), manifest, notes };
}

function required<T>(value: T | null | undefined, what: string, path: string): T {
  if (value !== null && value !== undefined) return value;
  throw new OrchestratorError(
    'ERR_USAGE',
    `${path} is a file of weights, which does not state the ${what}; it must be given`,
  );
}

/**
 * Opens weights for inference; a checkpoint is verified first.
 *
 * @param path a checkpoint's folder, a run's folder (its latest valid checkpoint), or weights alone, under
 *   the official names or diffusers'.
 * @throws OrchestratorError like locateWeights and loadWeights; ERR_OUT_OF_MEMORY, ERR_CUDA.
 */
export async function openForInference(path: string, options: InferenceOptions): Promise<InferenceModel> {
  const source = await locateWeights(path, options.weights);
  const { manifest } = source;
  const weights = await Weights.open(source.path);
  const model = weights.spec;
  await weights.close();
  const trained = manifest === null ? null : ([manifest.latent[1], manifest.latent[2]] as const);
  const [latentHeight, latentWidth] = required(
    options.latentSize ?? trained,
    'size of the latents',
    source.path,
  );
  const tokens = manifest === null ? null : manifest.text.clipTokens + manifest.text.t5Tokens;
  const device = options.device === 'cuda' ? (await findGpu(native())).ordinal : null;
  const precision = resolvePrecision(options.precision, device === null ? native().host() : GPU).compute;
  const spec: EngineSpec = {
    model,
    latentHeight,
    latentWidth,
    contextTokens: required(options.contextTokens ?? tokens, 'number of context tokens', source.path),
    microBatch: options.microBatch,
    precision,
    residual: precision,
    recompute: 'nothing',
    threads: options.threads ?? availableParallelism(),
    threadsPerSlot: 1,
    device,
    training: false,
    ema: false,
  };
  requireMemory(native(), spec);
  const engine = await native().createEngine(spec);
  try {
    const note = await loadWeights(engine, model, source.path);
    const notes = note === null ? source.notes : [...source.notes, note];
    const close = () => engine.close();
    return { engine, spec, manifest, text: manifest?.text ?? null, path: source.path, notes, close };
  } catch (error) {
    await engine.close();
    throw error;
  }
}
