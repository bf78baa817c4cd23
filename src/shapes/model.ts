/** A trained model of the shapes world, ready to draw pictures. */
import type { CheckpointManifest } from '../checkpoint/manifest.js';
import { type DrawSettings, drawLatents, objectiveIn } from '../engine/draw.js';
import { type InferenceModel, type InferenceOptions, openForInference } from '../engine/inference.js';
import { OrchestratorError } from '../errors.js';
import type { WeightsName } from '../native/contract.js';
import { assemble } from '../sampling/conditioning.js';
import { decodeLatent, LATENT_CHANNELS, LATENT_SIDE } from './autoencoder.js';
import { ENCODER_NAMES, TextEncoders } from './text-encoders.js';

export interface OpenOptions extends Pick<InferenceOptions, 'threads' | 'precision' | 'device'> {
  /** Which weights of the checkpoint; null = the EMA if there is one. */
  weights: WeightsName | null;
}

/** A trained model of the shapes world, with its text encoders and its decoder. */
export interface ShapesModel {
  /** Path of the file with the weights. */
  path: string;
  /** Sentences for the user. */
  notes: string[];
  /** Whether the weights are an average that shows little of the training. */
  untrained: boolean;
  /** Training steps of the checkpoint. */
  step: number;
  /** Formulation and resolution shift of the training. */
  formulation: string;
  shift: number;
  /** What computed the weights: programs, instruction set, precision. */
  versions: CheckpointManifest['versions'];
  /** Draws one latent [16, 8, 8] for each prompt. Throws ERR_PROMPT before computing anything. */
  latents(prompts: string[], settings: DrawSettings): Promise<Float32Array>;
  /** Draws one picture [64, 64, 3] for each prompt, like `latents`. */
  sample(prompts: string[], settings: DrawSettings): Promise<Uint8Array[]>;
  close(): Promise<void>;
}

/** [channels, height, width] */
export const LATENT = [LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE] as const;
/**
 * Samples that a thread computes at once, and pictures in a batch (each is predicted with and without its
 * prompt).
 */
const MICRO_BATCH = 16;
const BATCH = 32;

/** Whether data or a checkpoint are of the shapes world, whose latents decodeLatent decodes. */
export function isShapesWorld({
  latent,
  encoders,
}: Pick<CheckpointManifest, 'latent' | 'encoders'>): boolean {
  return latent.join() === LATENT.join() && encoders !== null && otherEncoder(encoders) === null;
}

/** The first encoder that is not the shapes world's. */
function otherEncoder(names: NonNullable<CheckpointManifest['encoders']>): string | null {
  return Object.values(names).find((name, i) => name !== Object.values(ENCODER_NAMES)[i]) ?? null;
}

/** The pictures of latents [count, 16, 8, 8]. */
export function decodeLatents(latents: Float32Array): Uint8Array[] {
  const size = LATENT.reduce((product, n) => product * n, 1);
  return Array.from({ length: latents.length / size }, (_, i) => decodeLatent(latents, i * size));
}

const UNNAMED_ENCODERS =
  "the checkpoint does not name its text encoders; prompts are encoded by the shapes world's";

/** Opens a checkpoint of the shapes world. Throws ERR_CHECKPOINT_MISMATCH for any other. */
export async function openShapesModel(path: string, options: OpenOptions): Promise<ShapesModel> {
  const model = await openForInference(path, {
    ...options,
    latentSize: null,
    contextTokens: null,
    microBatch: MICRO_BATCH,
  });
  try {
    return withEncoders(model);
  } catch (error) {
    await model.close();
    throw error;
  }
}

function withEncoders(model: InferenceModel): ShapesModel {
  const { manifest, path, spec } = model;
  if (manifest === null)
    throw foreign(path, 'it is a file of weights, which does not state what they were trained on');
  const { latent, text, encoders: names } = manifest;
  if (latent.some((n, i) => n !== LATENT[i])) {
    throw foreign(path, `its latents are ${latent.join(' x ')} instead of ${LATENT.join(' x ')}`);
  }
  const other = names && otherEncoder(names);
  if (other) throw foreign(path, `its texts were encoded by ${other}`);
  if (text.clipLPooledDim !== text.clipLDim || text.clipGPooledDim !== text.clipGDim) {
    throw foreign(path, 'its pooled vectors have other widths than its token features');
  }
  const encoders = new TextEncoders(text);
  const objective = objectiveIn(manifest);
  const latents = async (prompts: string[], settings: DrawSettings) => {
    const features = prompts.map((prompt) => encoders.encode(prompt));
    const conditioning = assemble(features, text, spec.model.contextDim);
    return await drawLatents(model, conditioning, objective, settings, BATCH);
  };
  return {
    path,
    notes: names ? model.notes : [...model.notes, UNNAMED_ENCODERS],
    untrained: model.stored?.untrained === true,
    step: manifest.step,
    formulation: objective.formulation,
    shift: objective.shift,
    versions: manifest.versions,
    latents,
    sample: async (prompts, settings) => decodeLatents(await latents(prompts, settings)),
    close: model.close,
  };
}

function foreign(path: string, why: string): OrchestratorError {
  return new OrchestratorError(
    'ERR_CHECKPOINT_MISMATCH',
    `${path} is not a model of the shapes world: ${why}`,
    'Prompts can be encoded only for models trained on a data set of `orchestrator dataset shapes`',
  );
}
