/** The data sets of a study. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { MANIFEST_FILE } from '../data/manifest.js';
import { OrchestratorError } from '../errors.js';
import { generateShapes, type ShapesOptions, staleReason } from '../shapes/generate.js';
import { picturesOf, referenceFile, referenceFor } from './prompts.js';
import type { StudySpec } from './schema.js';

/**
 * Makes a data set if it is missing, and what its models' pictures are compared with.
 *
 * @param dir folder of the study.
 * @param tell hears what is done.
 * @throws OrchestratorError ERR_STUDY: another data set is there.
 */
export async function prepareData(
  { data, evaluation }: StudySpec,
  name: string,
  dir: string,
  tell: (text: string) => void,
): Promise<void> {
  const { path, generate } = data[name]!;
  if (generate !== null) {
    const { pictures: kind, count, seed } = generate;
    const wanted: ShapesOptions = { out: path, kind, count, seed: BigInt(seed), onProgress: null };
    if (!existsSync(join(path, MANIFEST_FILE))) {
      tell(`generating ${count} pictures: ${path}`);
      await generateShapes(wanted);
    } else {
      const reason = await staleReason(wanted);
      if (reason !== null) {
        const what = `data.${name}: ${path} is not the data set of this study: ${reason}`;
        throw new OrchestratorError('ERR_STUDY', what, 'Give another data path, or remove that folder');
      }
    }
  }
  if (evaluation === null) return;
  const { reference, pictures } = evaluation;
  const { real } = await referenceFor(referenceFile(dir, name), picturesOf(path), reference, pictures);
  const followed = `${(100 * real.followed).toFixed(1)} % of ${real.count} prompts`;
  tell(`${name}: real pictures follow ${followed}, at a distance of ${real.frechet.toFixed(2)}`);
}
