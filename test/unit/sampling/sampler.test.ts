import { describe, expect, test } from 'vitest';
import type { RawBatch } from '../../../src/native/contract.js';
import { assemble } from '../../../src/sampling/conditioning.js';
import { initialNoise } from '../../../src/sampling/noise.js';
import { type SampleOptions, sampleLatents } from '../../../src/sampling/sampler.js';
import { objectiveNamed } from '../../support/formulations.js';

const options: SampleOptions = {
  latent: [1, 2, 2],
  objective: objectiveNamed('rf'),
  solver: 'euler',
  schedule: 'uniform',
  steps: 3,
  guidance: 2,
  seed: 5n,
  batch: 2,
  onProgress: () => {},
};

/** A network whose output depends on everything that it is given. */
async function predict({ z, timestep, context, pooled }: RawBatch): Promise<Float32Array> {
  const samples = timestep.length;
  const size = z.length / samples;
  return z.map((value, i) => {
    const sample = Math.floor(i / size);
    const text =
      context[(sample * context.length) / samples]! + 3 * pooled[(sample * pooled.length) / samples]!;
    return 0.1 * value + text + timestep[sample]! / 1000;
  });
}

const prompts = {
  count: 3,
  context: Float32Array.of(1, 0, 2, 0, 3, 0),
  pooled: Float32Array.of(0.5, 0.25, 0.125),
};

describe('sampleLatents', () => {
  test('gives a picture that does not depend on its batch', async () => {
    const together = await sampleLatents(predict, prompts, { ...options, batch: 3 });
    const apart = await sampleLatents(predict, prompts, { ...options, batch: 1 });
    expect([...together]).toEqual([...apart]);
    expect(together).toHaveLength(12);
  });

  test('follows v_uncond + w (v_cond - v_uncond), the unconditional text being zeros', async () => {
    const one = { count: 1, context: Float32Array.of(1, 0), pooled: Float32Array.of(0.5) };
    const result = await sampleLatents(predict, one, { ...options, steps: 1, guidance: 2 });
    const noise = initialNoise(5n, 0, 4);
    // t = 1: v_uncond = 0.1 z + 1, v_cond = v_uncond + 2.5, and one step of length 1.
    for (const [i, value] of result.entries()) expect(value).toBeCloseTo(0.9 * noise[i]! - 1 - 2 * 2.5, 5);
  });

  test('gives the unconditional output at a scale of 0', async () => {
    const drawn = await sampleLatents(predict, prompts, { ...options, guidance: 0 });
    const zeros = { count: 3, context: new Float32Array(6), pooled: new Float32Array(3) };
    const without = await sampleLatents(predict, zeros, { ...options, guidance: 1 });
    drawn.forEach((value, i) => {
      expect(value).toBeCloseTo(without[i]!, 5);
    });
  });

  test('tells the network the timestep of the formulation', async () => {
    const told: number[] = [];
    const listening = (batch: RawBatch) => {
      told.push(...batch.timestep);
      return predict(batch);
    };
    const objective = objectiveNamed('eps/linear');
    await sampleLatents(listening, prompts, { ...options, objective, steps: 2, batch: 3, guidance: 1 });
    expect(told).toEqual([999, 999, 999, 499, 499, 499]);
  });

  test('does without the unconditional prediction at a scale of 1', async () => {
    const sizes: number[] = [];
    const counting = (batch: RawBatch) => {
      sizes.push(batch.timestep.length);
      return predict(batch);
    };
    await sampleLatents(counting, prompts, { ...options, guidance: 1 });
    await sampleLatents(counting, prompts, { ...options, guidance: 2 });
    expect(sizes).toEqual([2, 2, 2, 1, 1, 1, 4, 4, 4, 2, 2, 2]);
  });

  test('reports progress over all batches', async () => {
    const seen: string[] = [];
    await sampleLatents(predict, prompts, {
      ...options,
      onProgress: (done, total) => seen.push(`${done}/${total}`),
    });
    expect(seen).toEqual(['1/6', '2/6', '3/6', '4/6', '5/6', '6/6']);
  });
});

describe('initialNoise', () => {
  test('is standard normal, and a function of seed and picture', () => {
    const noise = initialNoise(1n, 0, 40_000);
    const mean = noise.reduce((sum, value) => sum + value, 0) / noise.length;
    const variance = noise.reduce((sum, value) => sum + (value - mean) ** 2, 0) / noise.length;
    expect(Math.abs(mean)).toBeLessThan(0.02);
    expect(Math.abs(variance - 1)).toBeLessThan(0.03);
    expect([...initialNoise(1n, 0, 7)]).toEqual([...noise.subarray(0, 7)]);
    expect(initialNoise(1n, 1, 1)[0]).not.toBe(noise[0]);
    expect(initialNoise(2n, 0, 1)[0]).not.toBe(noise[0]);
  });
});

describe('assemble', () => {
  test('puts CLIP-L beside CLIP-G, pads to the width of T5, and T5 after them', () => {
    const text = {
      clipTokens: 2,
      t5Tokens: 1,
      clipLDim: 1,
      clipGDim: 2,
      t5Dim: 4,
      clipLPooledDim: 1,
      clipGPooledDim: 2,
    };
    const features = (base: number) => ({
      clipL: Float32Array.of(base + 1, base + 2),
      clipLPooled: Float32Array.of(base + 3),
      clipG: Float32Array.of(base + 4, base + 5, base + 6, base + 7),
      clipGPooled: Float32Array.of(base + 8, base + 9),
      t5: Float32Array.of(base + 10, base + 11, base + 12, base + 13),
    });
    const { context, pooled, count } = assemble([features(0), features(100)], text, 4);
    expect(count).toBe(2);
    expect([...context]).toEqual([
      ...[1, 4, 5, 0, 2, 6, 7, 0, 10, 11, 12, 13],
      ...[101, 104, 105, 0, 102, 106, 107, 0, 110, 111, 112, 113],
    ]);
    expect([...pooled]).toEqual([3, 8, 9, 103, 108, 109]);
  });
});
