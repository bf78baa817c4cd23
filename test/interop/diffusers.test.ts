/** Models and outputs of diffusers' own SD3Transformer2DModel (test/fixtures/diffusers/README.md). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readCase } from '../../src/engine/case.js';
import { drawLatents } from '../../src/engine/draw.js';
import { loadWeights } from '../../src/engine/load.js';
import { inferenceSpec } from '../../src/engine/spec.js';
import { Safetensors } from '../../src/formats/safetensors/file.js';
import { type TransferOptions, writeWeights } from '../../src/model/transfer.js';
import { withWeights } from '../../src/model/weights.js';
import { native } from '../../src/native/load.js';
import { temporaryFolder } from '../support/folders.js';

const FIXTURES = 'test/fixtures/diffusers';
const OFFICIAL: TransferOptions = {
  format: 'official',
  dtype: null,
  shardBytes: null,
  sampleSize: 16,
  training: null,
};

const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));

async function open(path: string) {
  const file = await Safetensors.open(path);
  const tensors = new Map<string, { shape: number[]; values: Float32Array }>();
  for (const { name, shape } of file.tensors.values())
    tensors.set(name, { shape, values: await file.read(name) });
  await file.close();
  return tensors;
}

test("draws the latents that diffusers' pipeline draws with its scheduler and zeros as negative prompt", async () => {
  const file = await Safetensors.open(join(FIXTURES, 'plain.sampled.safetensors'));
  const { steps, guidance, shift } = Object.fromEntries(file.metadata);
  const expected = await file.read('latents');
  await file.close();
  await withWeights(join(FIXTURES, 'plain'), async (weights) => {
    const { spec: model } = weights;
    const { batch, ...input } = await readCase(join(FIXTURES, 'plain.case.safetensors'), model);
    const { latentHeight, latentWidth, contextTokens, samples } = input;
    const spec = inferenceSpec({ model, latentHeight, latentWidth, contextTokens, microBatch: samples });
    const engine = await native().createEngine(spec);
    await loadWeights(engine, weights);
    const { context, pooled } = batch;
    const latents = await drawLatents(
      { engine, spec },
      { count: samples, context, pooled },
      { formulation: 'rf' },
      {
        ...{ solver: 'euler', schedule: 'reference', seed: 0n, onProgress: () => {} },
        ...{ steps: Number(steps), guidance: Number(guidance), shift: Number(shift) },
      },
      samples,
    );
    expect(norm(latents.map((value, i) => value - expected[i]!)) / norm(expected)).toBeLessThan(3e-6);
    await engine.close();
  });
});

describe.each(['plain', 'qk_norm', 'dual_attention'])('%s', (name) => {
  const theirs = join(FIXTURES, name);
  const casePath = join(FIXTURES, `${name}.case.safetensors`);

  test('gives the velocity that diffusers computes, for latents that are not square', async () => {
    const official = join(temporaryFolder(), 'official.safetensors');
    await withWeights(theirs, (weights) => writeWeights(weights, official, OFFICIAL));
    for (const path of [theirs, official]) {
      await withWeights(path, async (weights) => {
        const { spec: model } = weights;
        const input = await readCase(casePath, model);
        const { latentHeight, latentWidth, contextTokens, samples: microBatch } = input;
        expect([latentHeight, latentWidth]).toEqual([10, 14]);
        const engine = await native().createEngine(
          inferenceSpec({ model, latentHeight, latentWidth, contextTokens, microBatch }),
        );
        await loadWeights(engine, weights);
        const velocity = await engine.predict(input.batch, 'master');
        const expected = (await open(casePath)).get('velocity')!.values;
        const error = norm(velocity.map((value, i) => value - expected[i]!)) / norm(expected);
        expect(error).toBeLessThan(3e-6);
        await engine.close();
      });
    }
  });

  test('comes back from the official layout as diffusers wrote it', async () => {
    const folder = temporaryFolder();
    const official = join(folder, 'official.safetensors');
    const back = join(folder, 'back');
    await withWeights(theirs, (weights) => writeWeights(weights, official, OFFICIAL));
    const options = { ...OFFICIAL, format: 'diffusers' } as const;
    await withWeights(official, (weights) => writeWeights(weights, back, options));
    const file = 'diffusion_pytorch_model.safetensors';
    const [mine, its] = [await open(join(back, file)), await open(join(theirs, file))];
    expect([...mine.keys()].sort()).toEqual([...its.keys()].sort());
    for (const [tensor, found] of its) expect(mine.get(tensor), tensor).toEqual(found);
    const configOf = (path: string) => JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
    const { _diffusers_version, ...config } = configOf(theirs);
    expect(configOf(back)).toEqual(config);
  });
});
