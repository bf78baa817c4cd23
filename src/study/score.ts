/** Scores a trained run: pictures at every setting, and what a detector and a distance say of them. */

import { join } from 'node:path';
import sharp from 'sharp';
import { z } from 'zod';
import { mean } from '../averages.js';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { bestStep, listCheckpoints } from '../checkpoint/retention.js';
import { OrchestratorError } from '../errors.js';
import { canonicalHash } from '../files/hash.js';
import { replaceFile, writeDurably } from '../files/io.js';
import { readJson } from '../files/json.js';
import { FrechetReference, latentMoments } from '../shapes/evaluation/frechet.js';
import { showsWhat } from '../shapes/evaluation/judge.js';
import { openShapesModel } from '../shapes/model.js';
import { PICTURE_SIZE } from '../shapes/vocabulary.js';
import { distributionOf, drawPrompts, type Pictures, type Reference } from './prompts.js';
import type { Evaluation } from './schema.js';
import { RESAMPLED, resample } from './statistics.js';
import { validationsOf } from './validations.js';

const point = z.strictObject({ followed: z.number(), frechet: z.number() });
const scoresSchema = z.strictObject({
  format: z.literal('orchestrator-study-scores'),
  version: z.literal(1),
  /** Hashes of the configuration and of the evaluation that led to the scores. */
  config: z.string(),
  evaluation: z.string(),
  /** The step of the lowest validation loss of the EMA among the checkpoints. */
  step: z.int(),
  seconds: z.number(),
  /** Arithmetic of training and of sampling, and the instruction set, as the checkpoint names them. */
  versions: z.record(z.string(), z.string()),
  settings: z.array(
    z.strictObject({
      weights: z.enum(['ema', 'master']),
      /** Index in `evaluation.samplers`. */
      sampler: z.int(),
      ...point.shape,
      /** Scores of bootstrap resamples of the pictures. */
      replicates: z.array(point),
    }),
  ),
});

export type Scores = z.infer<typeof scoresSchema>;
type SettingScores = Scores['settings'][number];

const SCORES_FILE = 'scores.json';
/** The first pictures of the shown setting, side by side. */
const PICTURES_FILE = 'pictures.png';
export const PICTURES_SHOWN = 8;

/** What the scores of a folder are of. */
interface ScoredBy {
  /** Hash of the run's configuration. */
  config: string;
  evaluation: Evaluation;
}

/**
 * The scores in a run's folder, and whether they are of this evaluation; null if there are none of its
 * configuration.
 */
export function storedScores(
  runDir: string,
  { config, evaluation }: ScoredBy,
): { scores: Scores; current: boolean } | null {
  let scores: Scores;
  try {
    scores = readJson(join(runDir, SCORES_FILE), scoresSchema);
  } catch (error) {
    if (error instanceof OrchestratorError) return null;
    throw error;
  }
  if (scores.config !== config) return null;
  return { scores, current: scores.evaluation === canonicalHash(evaluation) };
}

/** The scores of a run; null if it has none, or of another evaluation. */
export function scoresOf(runDir: string, by: ScoredBy): Scores | null {
  const stored = storedScores(runDir, by);
  return stored?.current ? stored.scores : null;
}

/** The checkpoint of the lowest validation loss of the EMA; the last one of a run without. */
export async function bestCheckpoint(runDir: string): Promise<{ step: number; path: string }> {
  const checkpoints = await listCheckpoints(join(runDir, CHECKPOINTS));
  const losses = new Map(validationsOf(runDir).flatMap(({ step, ema }) => (ema ? [[step, ema.mean]] : [])));
  const best = bestStep(
    checkpoints.map(({ step }) => step),
    losses,
  );
  const found = checkpoints.find(({ step }) => step === best) ?? checkpoints[0];
  if (found !== undefined) return found;
  throw new OrchestratorError('ERR_CHECKPOINT_MISSING', `${runDir} has no checkpoint`);
}

interface ScoreOptions {
  runDir: string;
  pictures: Pictures;
  reference: Reference;
  evaluation: Evaluation;
  /** Hash of the run's configuration. */
  config: string;
  threads: number | null;
  device: 'cpu' | 'cuda';
  onProgress: (done: number, total: number) => void;
}

/** Scores a run and keeps the result in its folder. The model is opened once for each weights. */
export async function scoreRun(options: ScoreOptions): Promise<Scores> {
  const { runDir, evaluation, threads, device } = options;
  const { samplers, weights: all, shown } = evaluation;
  const started = performance.now();
  const { path, step } = await bestCheckpoint(runDir);
  const prompts = drawPrompts(options.pictures, evaluation.pictures);
  const texts = prompts.map(({ prompt }) => prompt);
  const reference = new FrechetReference(distributionOf(options.reference));
  const settings: SettingScores[] = [];
  let versions: Scores['versions'] = {};
  // A step with guidance predicts twice.
  const costs = samplers.map(({ steps, guidance }) => steps * (guidance === 1 ? 1 : 2));
  const total = all.length * costs.reduce((sum, cost) => sum + cost, 0);
  let done = 0;
  for (const weights of all) {
    const model = await openShapesModel(path, { weights, threads, device, precision: 'auto' });
    try {
      versions = model.versions;
      for (const [index, { steps, guidance, solver, schedule }] of samplers.entries()) {
        const pictures = await model.sample(texts, {
          ...{ steps, guidance, solver, schedule, seed: BigInt(evaluation.seed), shift: model.shift },
          onProgress: (part, parts) => options.onProgress(done + (costs[index]! * part) / parts, total),
        });
        done += costs[index]!;
        settings.push({
          ...{ weights, sampler: index },
          ...judged(pictures, prompts, reference, evaluation.replicates),
        });
        if (index === shown && weights === all[0]) await keepPictures(runDir, pictures);
      }
    } finally {
      await model.close();
    }
  }
  const scores: Scores = {
    ...{ format: 'orchestrator-study-scores', version: 1, step },
    ...{ config: options.config, evaluation: canonicalHash(evaluation) },
    ...{ seconds: (performance.now() - started) / 1000, versions, settings },
  };
  await replaceFile(join(runDir, SCORES_FILE), (temporary) =>
    writeDurably(temporary, `${JSON.stringify(scores)}\n`),
  );
  return scores;
}

/** The scores of pictures of prompts, and of bootstrap resamples of them. */
function judged(
  pictures: readonly Uint8Array[],
  prompts: ReturnType<typeof drawPrompts>,
  reference: FrechetReference,
  replicates: number,
) {
  const hits = pictures.map((pixels, i) => Number(showsWhat(pixels, prompts[i]!.stated)));
  const features = pictures.map((pixels) => reference.standardised(latentMoments(pixels)));
  const pointOf = (indices: readonly number[]) => ({
    followed: mean(indices.map((i) => hits[i]!)),
    frechet: reference.distance(indices.map((i) => features[i]!)),
  });
  const resampled = Array.from({ length: replicates }, (_, r) =>
    pointOf(resample(pictures.length, r, RESAMPLED.pictures)),
  );
  return { ...pointOf(pictures.map((_, i) => i)), replicates: resampled };
}

async function keepPictures(runDir: string, pictures: readonly Uint8Array[]): Promise<void> {
  const some = pictures.slice(0, PICTURES_SHOWN);
  const size = { width: PICTURE_SIZE, height: PICTURE_SIZE, channels: 3 as const };
  const layers = some.map((pixels, i) => ({
    input: Buffer.from(pixels),
    raw: size,
    left: i * PICTURE_SIZE,
    top: 0,
  }));
  const strip = sharp({ create: { ...size, width: some.length * PICTURE_SIZE, background: '#000000' } });
  const file = await strip.composite(layers).png().toBuffer();
  await replaceFile(join(runDir, PICTURES_FILE), (temporary) => writeDurably(temporary, file));
}

/** The pictures that scoring has kept, [64, 64, 3] each; none if there is no such file. */
export async function keptPictures(runDir: string): Promise<Uint8Array[]> {
  const image = sharp(join(runDir, PICTURES_FILE));
  const found = await image.metadata().catch(() => null);
  if (found === null) return [];
  return await Promise.all(
    Array.from({ length: Math.floor(found.width / PICTURE_SIZE) }, async (_, i) => {
      const area = { left: i * PICTURE_SIZE, top: 0, width: PICTURE_SIZE, height: PICTURE_SIZE };
      return new Uint8Array(await image.clone().extract(area).removeAlpha().raw().toBuffer());
    }),
  );
}
