/** What a study's models are asked to draw, and the pictures that theirs are compared with. */

import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { z } from 'zod';
import { mean } from '../averages.js';
import { readManifest } from '../data/manifest.js';
import { OrchestratorError } from '../errors.js';
import { replaceFile, writeDurably } from '../files/io.js';
import { readJson } from '../files/json.js';
import { decodeLatent, encodePicture } from '../shapes/autoencoder.js';
import type { Stated } from '../shapes/captions.js';
import { FrechetReference, latentMoments, type Normal, normalOf } from '../shapes/evaluation/frechet.js';
import { showsWhat } from '../shapes/evaluation/judge.js';
import { generatorOf } from '../shapes/generate.js';
import { drawPicture, PICTURE_KINDS, type PictureKind } from '../shapes/kinds.js';
import { render } from '../shapes/render.js';

/** Numbers of new pictures: beyond the rows of any data set, and different for both purposes. */
const FIRST_PROMPT = 2 ** 40;
const FIRST_REFERENCE = 2 ** 41;

interface StudyPrompt {
  prompt: string;
  stated: Stated;
}

/** The kind and the seed of the pictures of a data set. */
export interface Pictures {
  kind: PictureKind;
  seed: bigint;
}

/** @throws OrchestratorError ERR_CONFIG: not a data set of the shapes world. */
export function picturesOf(path: string): Pictures {
  const found = generatorOf(readManifest(path));
  if (found !== null) return found;
  throw new OrchestratorError(
    'ERR_CONFIG',
    `${path} is not a data set of the shapes world, so what its models draw cannot be scored`,
    'Without `evaluation`, a study compares losses',
  );
}

/** The original captions of pictures that are in no data set. */
export function drawPrompts({ kind, seed }: Pictures, count: number): StudyPrompt[] {
  return Array.from({ length: count }, (_, i) => {
    const { original, stated } = drawPicture(kind, seed, FIRST_PROMPT + i).captions;
    return { prompt: original, stated };
  });
}

/** What the autoencoder makes of a picture: the best that a model can draw. */
function realPicture({ kind, seed }: Pictures, id: number): Uint8Array {
  return decodeLatent(encodePicture(render(drawPicture(kind, seed, id).scene)));
}

const numbers = () => z.array(z.number());
const referenceSchema = z.strictObject({
  pictures: z.strictObject({ kind: z.enum(PICTURE_KINDS), seed: z.string().regex(/^\d{1,20}$/) }),
  count: z.int(),
  mean: numbers(),
  covariance: numbers(),
  real: z.strictObject({ count: z.int(), followed: z.number(), frechet: z.number() }),
});

/** New pictures of a data set: their features, and how as many real pictures as there are prompts would score. */
export type Reference = z.infer<typeof referenceSchema>;

/**
 * The reference of a data set, which is computed once and kept in a file.
 *
 * @param count pictures of the reference.
 * @param prompts number of prompts.
 */
export async function referenceFor(
  file: string,
  pictures: Pictures,
  count: number,
  prompts: number,
): Promise<Reference> {
  const named = { kind: pictures.kind, seed: String(pictures.seed) };
  const found = storedReference(file);
  const fits = found?.count === count && found.real.count === prompts;
  if (fits && found.pictures.kind === named.kind && found.pictures.seed === named.seed) return found;
  const rows: Float64Array[] = [];
  for (let i = 0; i < count; i++) {
    rows.push(latentMoments(realPicture(pictures, FIRST_REFERENCE + i)));
    // Signals and timers get their turn.
    if (i % 16 === 15) await setImmediate();
  }
  const normal = normalOf(rows);
  const distance = new FrechetReference(normal);
  const drawn = Array.from({ length: prompts }, (_, i) => realPicture(pictures, FIRST_PROMPT + i));
  const stated = drawPrompts(pictures, prompts).map((prompt) => prompt.stated);
  const reference = {
    pictures: named,
    count,
    mean: [...normal.mean],
    covariance: [...normal.covariance],
    real: {
      count: prompts,
      followed: mean(drawn.map((pixels, i) => Number(showsWhat(pixels, stated[i]!)))),
      frechet: distance.distance(drawn.map((pixels) => distance.standardised(latentMoments(pixels)))),
    },
  };
  await replaceFile(file, (temporary) => writeDurably(temporary, `${JSON.stringify(reference)}\n`));
  return reference;
}

function storedReference(file: string): Reference | null {
  try {
    return readJson(file, referenceSchema);
  } catch (error) {
    if (error instanceof OrchestratorError) return null;
    throw error;
  }
}

/** The kind and the seed of the pictures of a reference. */
export function picturesIn({ pictures: { kind, seed } }: Reference): Pictures {
  return { kind, seed: BigInt(seed) };
}

export function distributionOf({ mean: centre, covariance }: Reference): Normal {
  return { mean: Float64Array.from(centre), covariance: Float64Array.from(covariance) };
}

/** The reference of a data set of a study, if it has been computed. */
export function readReference(studyDir: string, data: string): Reference | null {
  return storedReference(referenceFile(studyDir, data));
}

export function referenceFile(studyDir: string, data: string): string {
  return join(studyDir, 'references', `${data}.json`);
}
