/** A trained model of the shapes world, ready to draw pictures. */
import { type InferenceModel, openForInference } from '../engine/inference.js';
import { OrchestratorError } from '../errors.js';
import type { WeightsName } from '../native/contract.js';
import { type ObjectiveConfig, objectiveOf } from '../objective/objective.js';
import { assemble } from '../sampling/conditioning.js';
import { type Network, type SampleOptions, sampleLatents } from '../sampling/sampler.js';
import { decodeLatent, LATENT_CHANNELS, LATENT_SIDE } from './autoencoder.js';
import { ENCODER_NAMES, TextEncoders } from './text-encoders.js';

export interface OpenOptions {
  weights: WeightsName | null;
  /** Compute threads; null = one per processor. */
  threads: number | null;
  precision: 'auto' | 'fp32' | 'bf16';
  device: 'cpu' | 'cuda';
}

/** Settings for sampling that the caller chooses. */
export interface ShapesSettings extends Omit<SampleOptions, 'latent' | 'objective' | 'batch'> {
  /** Resolution shift alpha. */
  shift: number;
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
  /** Resolution shift of the training. */
  shift: number;
  /** Draws one picture [64, 64, 3] for each prompt. Throws ERR_PROMPT before computing anything. */
  sample(prompts: string[], settings: ShapesSettings): Promise<Uint8Array[]>;
  close(): Promise<void>;
}

const LATENT = [LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE] as const;
/**
 * Samples that a thread computes at once, and pictures in a batch (each is predicted with and without its
 * prompt).
 */
const MICRO_BATCH = 16;
const BATCH = 32;

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
  const { engine, manifest, path, spec } = model;
  if (manifest === null)
    throw foreign(path, 'it is a file of weights, which does not state what they were trained on');
  const { latent, text, encoders: names } = manifest;
  if (latent.some((n, i) => n !== LATENT[i])) {
    throw foreign(path, `its latents are ${latent.join(' x ')} instead of ${LATENT.join(' x ')}`);
  }
  const other = names && Object.values(names).find((name, i) => name !== Object.values(ENCODER_NAMES)[i]);
  if (other) throw foreign(path, `its texts were encoded by ${other}`);
  if (text.clipLPooledDim !== text.clipLDim || text.clipGPooledDim !== text.clipGDim) {
    throw foreign(path, 'its pooled vectors have other widths than its token features');
  }
  const encoders = new TextEncoders(text);
  const { objective } = manifest.config as { objective: ObjectiveConfig };
  return {
    path,
    notes: names ? model.notes : [...model.notes, UNNAMED_ENCODERS],
    untrained: model.stored?.untrained === true,
    step: manifest.step,
    shift: objective.shift,
    close: model.close,
    async sample(prompts, settings) {
      const features = prompts.map((prompt) => encoders.encode(prompt));
      const conditioning = assemble(features, text, spec.model.contextDim);
      const network: Network = (batch) => engine.predict(batch, 'master');
      const latents = await sampleLatents(network, conditioning, {
        ...settings,
        latent: LATENT,
        objective: objectiveOf({ ...objective, shift: settings.shift }),
        batch: BATCH,
      });
      const size = latents.length / prompts.length;
      return prompts.map((_, i) => decodeLatent(latents, i * size));
    },
  };
}

function foreign(path: string, why: string): OrchestratorError {
  return new OrchestratorError(
    'ERR_CHECKPOINT_MISMATCH',
    `${path} is not a model of the shapes world: ${why}`,
    'Prompts can be encoded only for models trained on a data set of `orchestrator dataset shapes`',
  );
}
