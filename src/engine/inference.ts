/** Opens an engine for inference from a checkpoint, or from weights alone. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type CheckpointManifest, EMA_FILE, MANIFEST, MODEL_FILE } from '../checkpoint/manifest.js';
import { resolveCheckpoint } from '../checkpoint/resume.js';
import { type openCheckpoint, verifyCheckpoint } from '../checkpoint/store.js';
import { OrchestratorError } from '../errors.js';
import { withHome } from '../files/home.js';
import { weightsFolder } from '../model/files.js';
import { withWeights } from '../model/weights.js';
import type { EngineSpec, ModelSpec, WeightsName } from '../native/contract.js';
import { findGpu } from '../native/cuda.js';
import { hostOf } from '../native/host.js';
import { native } from '../native/load.js';
import { contextTokens } from '../native/specs.js';
import { loadWeights } from './load.js';
import { requireMemory } from './memory.js';
import { GPU, resolvePrecision } from './precision.js';
import { inferenceSpec } from './spec.js';
import { notesOn, type StoredWeights, storedAt, storedWeights } from './stored-weights.js';

export interface InferenceOptions {
  /** Latent [height, width] to run at; null = that of the training. */
  latentSize: [number, number] | null;
  /** Context tokens M; null = those of the training. */
  contextTokens: number | null;
  /** Samples that a thread computes at once. */
  microBatch: number;
  /** Micro-batches of a prediction, where known: threads beyond these share them, which changes no bit. */
  slots?: number;
  /** Compute threads; null = one per processor. */
  threads: number | null;
  precision: 'auto' | 'fp32' | 'bf16';
  device: 'cpu' | 'cuda';
}

export interface WeightsSource {
  /** Path of the weights. */
  path: string;
  /** The checkpoint's manifest, or null for weights alone. */
  manifest: CheckpointManifest | null;
  /** What the weights of a checkpoint are; null for weights alone. */
  stored: StoredWeights | null;
  /** Whether the caller left the choice of a checkpoint's weights to this function. */
  byDefault: boolean;
  /** Sentences for the user: skipped tensors, damaged checkpoints. */
  notes: string[];
}

export type InferenceModel = Awaited<ReturnType<typeof openForInference>>;

/**
 * Whether a path leads to weights alone: a file, or a folder with weights and without a checkpoint's
 * manifest.
 */
async function isWeights(path: string): Promise<boolean> {
  if ((await stat(path).catch(() => null))?.isFile()) return true;
  const names = await readdir(path).catch((): string[] => []);
  return (
    !names.includes(MANIFEST) && (names.includes('model_index.json') || weightsFolder(path, names) !== null)
  );
}

/**
 * Finds the weights at a path, which may begin with `~`: a checkpoint's folder, a run's folder (its latest valid checkpoint), or
 * weights alone (see openFiles).
 *
 * @param weights which of a checkpoint's; null = the EMA, or the master weights of a run without.
 * @param check see resolveCheckpoint.
 */
export async function locateWeights(
  given: string,
  weights: WeightsName | null,
  check: typeof openCheckpoint = verifyCheckpoint,
): Promise<WeightsSource> {
  const path = withHome(given);
  if (await isWeights(path)) {
    return { path, manifest: null, stored: await storedAt(path), byDefault: false, notes: [] };
  }
  const { path: folder, manifest, damaged } = await resolveCheckpoint(path, check);
  const hasEma = manifest.files[EMA_FILE] !== undefined;
  if (weights === 'ema' && !hasEma) {
    throw new OrchestratorError(
      'ERR_CHECKPOINT_MISMATCH',
      `${folder} holds no ${EMA_FILE}: its run kept no EMA`,
      'Use the master weights',
    );
  }
  const chosen = weights ?? (hasEma ? 'ema' : 'master');
  const stored = storedWeights(manifest, chosen);
  if (weights === null && !hasEma) stored.text += '; the run kept no EMA';
  return {
    path: join(folder, chosen === 'ema' ? EMA_FILE : MODEL_FILE),
    manifest,
    stored,
    byDefault: weights === null,
    notes: damaged.map(({ path: other, reason }) => `Skipped the damaged checkpoint ${other}: ${reason}`),
  };
}

/**
 * Opens weights for inference; a checkpoint is verified first. Whichever they are, they become the engine's
 * master weights: `predict(batch, 'master')`.
 *
 * @param path a checkpoint's folder, a run's folder (its latest valid checkpoint), or weights alone, under
 *   the official names or diffusers'.
 */
export async function openForInference(
  path: string,
  options: InferenceOptions & { weights: WeightsName | null },
) {
  return await openLocated(await locateWeights(path, options.weights), options);
}

/** Opens weights that were located. ERR_USAGE: weights alone, without the sizes of what they were trained on. */
export async function openLocated(source: WeightsSource, options: InferenceOptions) {
  return await withWeights(source.path, async (weights) => {
    const spec = await specFor(weights.spec, source, options);
    requireMemory(native(), spec);
    const engine = await native().createEngine(spec);
    try {
      await loadWeights(engine, weights);
      const notes = [...notesOn(source.stored), ...source.notes, ...weights.notes];
      return { ...source, notes, engine, spec, close: () => engine.close() };
    } catch (error) {
      await engine.close();
      throw error;
    }
  });
}

async function specFor(
  model: ModelSpec,
  { path, manifest }: WeightsSource,
  options: InferenceOptions,
): Promise<EngineSpec> {
  const latentSize = options.latentSize ?? manifest?.latent.slice(1);
  const tokens = options.contextTokens ?? (manifest === null ? null : contextTokens(manifest.text));
  if (latentSize === undefined || tokens === null) {
    throw new OrchestratorError(
      'ERR_USAGE',
      `${path} is a file of weights, which does not state the size of its latents and the number of context tokens`,
      "Name a checkpoint's folder or a run's, which do",
    );
  }
  const [latentHeight, latentWidth] = latentSize as [number, number];
  const { patch, posEmbedMaxSize } = model;
  const fits = (side: number) => side % patch === 0 && side <= patch * posEmbedMaxSize;
  if (!fits(latentHeight) || !fits(latentWidth)) {
    throw new OrchestratorError(
      'ERR_TENSOR_SHAPE',
      `${path}: latents of ${latentHeight} x ${latentWidth} do not fit the model: expected multiples of ${patch} (its patch) up to ${patch * posEmbedMaxSize} (its grid of positions)`,
    );
  }
  const device = options.device === 'cuda' ? (await findGpu(native())).ordinal : null;
  const { compute } = resolvePrecision(
    { compute: options.precision, linear: 'compute' },
    device === null ? native().host() : GPU,
  );
  const threads = options.threads ?? hostOf(native()).processors;
  const { microBatch, slots = threads } = options;
  const threadsPerSlot = device === null ? Math.max(1, Math.floor(threads / slots)) : 1;
  return inferenceSpec(
    { model, latentHeight, latentWidth, contextTokens: tokens, microBatch },
    { precision: compute, threads, threadsPerSlot, device },
  );
}
