/** Whether a data set fits the configuration's model. */
import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { totalBytes } from '../memory/parts.js';
import { bytes, counted } from '../text/quantities.js';
import { nonFiniteRows } from './check.js';
import type { DescribedDataset } from './dataset.js';
import { judgesScaling, sampleLatents, scalingAdvice } from './latents.js';

/** Refuses latents that cannot be cut into patches. */
export function requirePatches(
  { latent, spec }: DescribedDataset,
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
export async function scalingWarning({
  spec,
  rows,
  latent,
  encoders,
}: DescribedDataset): Promise<string | null> {
  if (!judgesScaling(encoders, spec)) return null;
  const advice = scalingAdvice(await sampleLatents(spec, rows), latent[0], spec);
  return advice && `${spec.files[0]!.path}: ${advice}`;
}

/** Reading all values of a data set up to this size takes seconds. */
const READABLE_BYTES = 2 * 2 ** 30;
const NAMED_ROWS = 20;

/** The rows that a run will skip, for a dry run; null if there are none, or the data set is too large to read. */
export async function skippedWarning(
  { spec, rows }: DescribedDataset,
  { data }: Pick<Config, 'data'>,
): Promise<string | null> {
  if (data.on_non_finite !== 'skip') return null;
  if (totalBytes(spec.files) > READABLE_BYTES) {
    return `${spec.files[0]!.path}: rows to skip are not searched for in more than ${bytes(READABLE_BYTES)}: dataset verify --config lists them`;
  }
  const found = await nonFiniteRows(spec, rows);
  if (found.length === 0) return null;
  const named = found.slice(0, NAMED_ROWS).join(', ') + (found.length > NAMED_ROWS ? ', ...' : '');
  return `${spec.files[0]!.path}: ${counted(found.length, 'row')} will be skipped, because values are not finite: ${named}`;
}
