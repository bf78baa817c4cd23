/** Sampling: draws latents for prompts. */
import type { RawBatch } from '../native/contract.js';
import { type Coefficients, denoise } from '../objective/coefficients.js';
import type { Objective } from '../objective/objective.js';
import type { GridKind } from '../objective/paths.js';
import type { Conditioning } from './conditioning.js';
import { initialNoise } from './noise.js';
import { SOLVERS, type SolverName } from './solvers.js';

/** The network: its output [B, C, H, W] for a batch. */
export type Network = (batch: RawBatch) => Promise<Float32Array>;

export interface SampleOptions {
  /** Shape [C, H, W] of a latent. */
  latent: readonly [number, number, number];
  /** What the network was trained on. */
  objective: Objective;
  solver: SolverName;
  schedule: GridKind;
  steps: number;
  /** Guidance scale w; w = 1 needs one prediction per step instead of two. */
  guidance: number;
  seed: bigint;
  /** Number of pictures computed together. */
  batch: number;
  /** Called after every step with the completed and the total number of steps, over all batches. */
  onProgress: (done: number, total: number) => void;
}

/** Draws one latent for each prompt: [count, C, H, W]. The noise of picture i depends on (seed, i) alone. */
export async function sampleLatents(
  network: Network,
  prompts: Conditioning,
  options: SampleOptions,
): Promise<Float32Array> {
  const { batch, guidance, objective, seed, steps } = options;
  const size = options.latent.reduce((product, n) => product * n, 1);
  const path = objective.grid(options.schedule, steps).map((level) => objective.at(level));
  const first = path[0]!;
  // The deviation of z where data and noise have deviation 1: 1 on every variance-preserving path.
  const deviation = Math.sqrt(first.a * first.a + first.b * first.b);
  const latents = new Float32Array(prompts.count * size);
  const total = Math.ceil(prompts.count / batch) * steps;
  let before = 0;
  for (let from = 0; from < prompts.count; from += batch) {
    const part = slice(prompts, from, Math.min(from + batch, prompts.count));
    const start = new Float32Array(part.count * size);
    for (let i = 0; i < part.count; i++) {
      start.set(
        initialNoise(seed, from + i, size).map((value) => deviation * value),
        i * size,
      );
    }
    const model = async (z: Float32Array, at: Coefficients) =>
      denoise(at, z, await guidedOutput(network, z, at.timestep, part, guidance));
    const onStep = (done: number) => options.onProgress(before + done, total);
    const end = await SOLVERS[options.solver](model, start, path, onStep);
    // Without noise z = a x0.
    latents.set(
      end.map((value) => value / path.at(-1)!.a),
      from * size,
    );
    before += steps;
  }
  return latents;
}

function slice({ context, pooled, count }: Conditioning, from: number, to: number): Conditioning {
  const cut = (values: Float32Array) =>
    values.subarray((values.length / count) * from, (values.length / count) * to);
  return { count: to - from, context: cut(context), pooled: cut(pooled) };
}

/**
 * The network's output under classifier-free guidance: uncond + w (cond - uncond). w = 1 gives the
 * conditional output, w = 0 the unconditional one. (Some texts write (1 + w') cond - w' uncond; then
 * w' = w - 1.) The unconditional case has every encoder dropped, which means zeros; both are computed as one
 * batch.
 */
async function guidedOutput(
  network: Network,
  z: Float32Array,
  timestep: number,
  { context, pooled, count }: Conditioning,
  w: number,
): Promise<Float32Array> {
  if (w === 1) return network({ z, timestep: new Float32Array(count).fill(timestep), context, pooled });
  const both = await network({
    z: joined(z, z),
    timestep: new Float32Array(2 * count).fill(timestep),
    context: joined(context, new Float32Array(context.length)),
    pooled: joined(pooled, new Float32Array(pooled.length)),
  });
  const unconditional = both.subarray(z.length);
  return both.subarray(0, z.length).map((value, i) => unconditional[i]! + w * (value - unconditional[i]!));
}

function joined(first: Float32Array, second: Float32Array): Float32Array {
  const result = new Float32Array(first.length + second.length);
  result.set(first);
  result.set(second, first.length);
  return result;
}
