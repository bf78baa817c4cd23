/** Whether a data set fits the configuration's model. */
import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import type { OpenDataset } from './dataset.js';
import { sampleLatents, scalingAdvice } from './latents.js';

/** Refuses latents that cannot be cut into patches. */
export function requirePatches(
  { latent, spec }: OpenDataset,
  { model: { patch } }: Pick<Config, 'model'>,
): void {
  const [, height, width] = latent;
  if (height % patch === 0 && width % patch === 0) return;
  throw new OrchestratorError(
    'ERR_DATA_SHAPE',
    `model.patch is ${patch}, which does not divide the sides of the latents in ${spec.files[0]!.path}: ${latent.join(' x ')}`,
    `Crop the pictures before they are encoded, so that the sides of latents are multiples of ${patch}, or set model.patch`,
  );
}

/** What seems wrong with the values of a few rows, for the start of a run; null if nothing. */
export async function warningOf({ spec, rows, latent }: OpenDataset): Promise<string | null> {
  const advice = scalingAdvice(await sampleLatents(spec, rows), latent[0], spec);
  return advice && `${spec.files[0]!.path}: ${advice}`;
}
