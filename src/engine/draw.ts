/** Draws latents with an opened model. */
import type { CheckpointManifest } from '../checkpoint/manifest.js';
import { type ObjectiveConfig, objectiveOf, storedObjective } from '../objective/objective.js';
import type { Conditioning } from '../sampling/conditioning.js';
import { type Network, type SampleOptions, sampleLatents } from '../sampling/sampler.js';
import type { InferenceModel } from './inference.js';

/** Settings that the caller chooses. */
export interface DrawSettings extends Omit<SampleOptions, 'latent' | 'objective' | 'batch'> {
  /** Resolution shift alpha. */
  shift: number;
}

/** What the model of a checkpoint learned. */
export function objectiveIn({ config }: CheckpointManifest): ObjectiveConfig {
  return storedObjective((config as { objective: ObjectiveConfig & Record<string, unknown> }).objective);
}

/**
 * Draws one latent for each prompt: [count, C, H, W].
 *
 * @param batch number of latents computed together.
 */
export async function drawLatents(
  { engine, spec }: Pick<InferenceModel, 'engine' | 'spec'>,
  prompts: Conditioning,
  objective: Omit<ObjectiveConfig, 'shift'>,
  { shift, ...settings }: DrawSettings,
  batch: number,
): Promise<Float32Array> {
  const network: Network = (inputs) => engine.predict(inputs, 'master');
  return await sampleLatents(network, prompts, {
    ...settings,
    latent: [spec.model.latentChannels, spec.latentHeight, spec.latentWidth],
    objective: objectiveOf({ ...objective, shift }),
    batch,
  });
}
