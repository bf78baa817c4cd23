/** Sampling: draws latents for prompts. */
import type { RawBatch } from '../native/contract.js';
import type { Conditioning } from './conditioning.js';
import { integrateEuler } from './euler.js';
import { guide } from './guidance.js';
import { initialNoise } from './noise.js';
import { type ScheduleKind, schedule } from './schedule.js';

/** The model: predicts the velocity [B, C, H, W] of a batch. */
export type Predict = (batch: RawBatch) => Promise<Float32Array>;

export interface SampleOptions {
  /** Shape [C, H, W] of a latent. */
  latent: readonly [number, number, number];
  schedule: ScheduleKind;
  steps: number;
  /** Guidance scale w; w = 1 needs one prediction per step instead of two. */
  guidance: number;
  /** Resolution shift alpha, as in training. */
  shift: number;
  seed: bigint;
  /** Number of pictures computed together. */
  batch: number;
  /** Called after every step with the completed and the total number of steps, over all batches. */
  onProgress: (done: number, total: number) => void;
}

/** Draws one latent for each prompt: [count, C, H, W]. The noise of picture i depends on (seed, i) alone. */
export async function sampleLatents(
  predict: Predict,
  prompts: Conditioning,
  options: SampleOptions,
): Promise<Float32Array> {
  const size = options.latent.reduce((product, n) => product * n, 1);
  const times = schedule(options.schedule, options.steps, options.shift);
  const latents = new Float32Array(prompts.count * size);
  const total = Math.ceil(prompts.count / options.batch) * options.steps;
  let before = 0;
  for (let from = 0; from < prompts.count; from += options.batch) {
    const part = slice(prompts, from, Math.min(from + options.batch, prompts.count));
    const start = new Float32Array(part.count * size);
    for (let i = 0; i < part.count; i++) start.set(initialNoise(options.seed, from + i, size), i * size);
    const velocity = (z: Float32Array, t: number) => guidedVelocity(predict, z, t, part, options.guidance);
    const onStep = (done: number) => options.onProgress(before + done, total);
    latents.set(await integrateEuler(velocity, start, times, onStep), from * size);
    before += options.steps;
  }
  return latents;
}

function slice({ context, pooled, count }: Conditioning, from: number, to: number): Conditioning {
  const cut = (values: Float32Array) =>
    values.subarray((values.length / count) * from, (values.length / count) * to);
  return { count: to - from, context: cut(context), pooled: cut(pooled) };
}

/**
 * The unconditional prediction has every encoder dropped, which means zeros; both predictions are computed as
 * one batch.
 */
async function guidedVelocity(
  predict: Predict,
  z: Float32Array,
  t: number,
  { context, pooled, count }: Conditioning,
  scale: number,
): Promise<Float32Array> {
  if (scale === 1) {
    return predict({ z, timestep: new Float32Array(count).fill(1000 * t), context, pooled });
  }
  const both = await predict({
    z: twice(z),
    timestep: new Float32Array(2 * count).fill(1000 * t),
    context: followedByZeros(context),
    pooled: followedByZeros(pooled),
  });
  return guide(both.subarray(0, z.length), both.subarray(z.length), scale);
}

function twice(values: Float32Array): Float32Array {
  const result = new Float32Array(2 * values.length);
  result.set(values);
  result.set(values, values.length);
  return result;
}

function followedByZeros(values: Float32Array): Float32Array {
  const result = new Float32Array(2 * values.length);
  result.set(values);
  return result;
}
