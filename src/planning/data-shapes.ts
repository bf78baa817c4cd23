/** The shapes of a run's data, from the configuration or the data set. */

import type { LoadedConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { describeDataset } from '../data/dataset.js';
import type { DatasetShapes } from '../engine/spec.js';
import { OrchestratorError } from '../errors.js';
import type { TextSpec } from '../native/contract.js';
import { startFresh } from '../run-folder/resolve-run.js';

export interface FoundShapes extends DatasetShapes {
  source: 'configuration' | 'data set';
}

/** The shapes of a run's data. With `data.latent_shape` and `data.text_shape` no data set is needed. */
export async function shapesOf(config: Config): Promise<FoundShapes> {
  const configured = configuredShapes(config);
  if (configured !== null) return configured;
  try {
    const { latent, text } = describeDataset(config.data);
    return { latent, text, source: 'data set' };
  } catch (error) {
    if ((error as OrchestratorError).code !== 'ERR_FILE_OPEN') throw error;
    throw new OrchestratorError(
      'ERR_CONFIG',
      `data.latent_shape, data.text_shape: expected the shapes of the data, because there is no data set: ${(error as Error).message}`,
      { cause: error },
    );
  }
}

/** The configuration of a run that is planned: with the model of `init` where its keys are not set. */
export async function plannedConfig(loaded: LoadedConfig): Promise<Config> {
  if (loaded.config.init === null) return loaded.config;
  return (await startFresh(loaded, await shapesOf(loaded.config), false)).config;
}

/**
 * The shapes in the configuration, or null if it leaves them to the data set. Pooled vectors are as wide as
 * their encoder's tokens, unless model.pooled_dim says otherwise.
 */
export function configuredShapes({ data, model }: Config): FoundShapes | null {
  const { latent_shape: latent, text_shape: shape } = data;
  if (latent === null || shape === null) return null;
  const [clipTokens, clipLDim] = shape.clip_l;
  const clipGDim = shape.clip_g[1];
  const [t5Tokens, t5Dim] = shape.t5;
  const pooled = model.pooled_dim ?? clipLDim + clipGDim;
  const clipLPooledDim = Math.min(clipLDim, pooled);
  const clipGPooledDim = pooled - clipLPooledDim;
  const text: TextSpec = { clipTokens, t5Tokens, clipLDim, clipGDim, t5Dim, clipLPooledDim, clipGPooledDim };
  return { latent, text, source: 'configuration' };
}
