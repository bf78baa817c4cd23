/**
 * Checkpoints of a real engine: saved, loaded into another, opened for inference, and looked at from the
 * command line.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openForInference } from '../../src/engine/inference.js';
import { loadInto, loadWeights } from '../../src/engine/load.js';
import { Safetensors } from '../../src/formats/safetensors/file.js';
import { writeSafetensors } from '../../src/formats/safetensors/write.js';
import { withWeights } from '../../src/model/weights.js';
import type { Engine, ModelSpec, StateName } from '../../src/native/contract.js';
import { native } from '../../src/native/load.js';
import { contentOf, sameBytes, saveCheckpoint } from '../support/checkpoints.js';
import { closedAfterTest, openEngine, SMALL } from '../support/engines.js';
import { temporaryFolder } from '../support/folders.js';
import { posEmbed } from '../support/pos-embed.js';
import { orchestrator } from '../support/program.js';
import { generator } from '../support/random.js';

const FIXTURES = new URL('../fixtures/mmdit/', import.meta.url).pathname;
const STATES: StateName[] = ['master', 'ema', 'm', 'v'];

/** An engine whose state is a function of the seed. */
async function filled(seed: number): Promise<Engine> {
  const engine = await openEngine({ ema: true });
  await engine.initialize(BigInt(seed));
  const random = generator(seed);
  const { tensors } = engine.layout();
  for (const name of STATES) {
    for (const { name: tensor } of tensors) {
      const values = await engine.state(name, tensor);
      for (let i = 0; i < values.length; i++) values[i] = (random() - 0.5) / 4;
    }
  }
  await engine.parametersChanged();
  return engine;
}

async function save(engine: Engine, root: string, step: number): Promise<string> {
  const { state } = await engine.snapshot();
  const { metadata } = contentOf(step, 0);
  const content = { layout: engine.layout(), state, posEmbed: engine.posEmbed(), metadata };
  return (await saveCheckpoint(root, content)).path;
}

function batch(samples: number) {
  const random = generator(3);
  const array = (length: number) => Float32Array.from({ length }, () => random() * 2 - 1);
  return {
    z: array(samples * 4 * 64),
    timestep: Float32Array.from({ length: samples }, (_, i) => 100 + 200 * i),
    context: array(samples * 16 * SMALL.contextDim),
    pooled: array(samples * SMALL.pooledDim),
  };
}

const inference = {
  weights: 'ema' as const,
  latentSize: null,
  contextTokens: null,
  microBatch: 2,
  threads: 1,
  precision: 'fp32' as const,
  device: 'cpu' as const,
};

describe('an engine', () => {
  test('lays out the parameters that are known without it, and names its moments', async () => {
    const layout = (await openEngine({ ema: true })).layout();
    expect(layout).toEqual({ ...layout, ...native().parameters(SMALL), moments: ['m', 'v'] });
    expect((await openEngine({ training: false })).layout().moments).toEqual([]);
  });

  test('computes the position table that the files store', async () => {
    const engine = await openEngine({ ema: true });
    await engine.initialize(1n);
    const [found, expected] = [engine.posEmbed(), posEmbed(SMALL)];
    expect(found.length).toBe(expected.length);
    for (let i = 0; i < found.length; i++)
      expect(Math.abs(found[i]! - expected[i]!)).toBeLessThanOrEqual(6e-8);
  });

  test('goes on with the same bits in another engine, of another batch and number of threads', async () => {
    const first = await filled(1);
    const path = await save(first, temporaryFolder(), 40);
    const second = await openEngine({ ema: true, threads: 2, microBatch: 3 });
    const manifest = await loadInto(second, path, true);
    expect(manifest.step).toBe(40);
    for (const name of STATES) {
      for (const { name: tensor } of first.layout().tensors) {
        const [found, expected] = [await second.state(name, tensor), await first.state(name, tensor)];
        expect(sameBytes(found, expected), `${name} ${tensor}`).toBe(true);
      }
    }
    expect(await second.digest()).toBe(await first.digest());
    expect(sameBytes(second.posEmbed(), first.posEmbed())).toBe(true);
    const [a, b] = [await first.predict(batch(2), 'master'), await second.predict(batch(2), 'master')];
    expect(a.some((value) => value !== 0)).toBe(true);
    expect(sameBytes(a, b)).toBe(true);
  });

  test('takes weights from a file in half precision', async () => {
    const path = `${FIXTURES}sd35-medium-like.weights.safetensors`;
    const model: ModelSpec = {
      backbone: 'mmdit',
      depth: 2,
      heads: 2,
      patch: 2,
      latentChannels: 16,
      contextDim: 64,
      pooledDim: 32,
      posEmbedMaxSize: 16,
      qkNorm: 'rms',
      dualAttention: [0],
    };
    const engine = await openEngine({ model, ema: true });
    await withWeights(path, (weights) => loadWeights(engine, weights));
    const file = await Safetensors.open(path);
    for (const { name } of engine.layout().tensors) {
      const expected = await file.read(`model.diffusion_model.${name}`);
      expect(sameBytes(await engine.state('master', name), expected), name).toBe(true);
    }
    await file.close();
  });
});

describe('inference', () => {
  test.each(['ema', 'master'] as const)('predicts with the %s weights of a checkpoint', async (weights) => {
    const engine = await filled(2);
    const run = temporaryFolder();
    await save(engine, join(run, 'checkpoints'), 7);
    const model = closedAfterTest(await openForInference(run, { ...inference, weights }));
    expect(model.manifest?.step).toBe(7);
    expect(model.spec).toMatchObject({ model: SMALL, latentHeight: 8, latentWidth: 8, contextTokens: 16 });
    const [a, b] = [await engine.predict(batch(3), weights), await model.engine.predict(batch(3), 'master')];
    expect(sameBytes(a, b)).toBe(true);
    const other = weights === 'ema' ? 'master' : 'ema';
    expect(sameBytes(a, await engine.predict(batch(3), other))).toBe(false);
  });

  test('uses the EMA, or the master weights of a run without one, and says so', async () => {
    const run = temporaryFolder();
    const without = await openEngine({ ema: false });
    await without.initialize(3n);
    await save(without, join(run, 'checkpoints'), 7);
    const model = closedAfterTest(await openForInference(run, { ...inference, weights: null }));
    expect(model.path).toMatch(/model\.safetensors$/);
    expect(model.notes.join()).toContain('Weights: master weights of step 7; the run kept no EMA');
    await expect(openForInference(run, { ...inference, weights: 'ema' })).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_MISMATCH',
      hint: 'Use the master weights',
    });
    await save(await filled(2), join(run, 'checkpoints'), 8);
    const averaged = closedAfterTest(await openForInference(run, { ...inference, weights: null }));
    expect(averaged.path).toMatch(/ema\.safetensors$/);
    expect(averaged.notes).toEqual(['Weights: EMA of step 8']);
  });

  test('passes over a damaged checkpoint, and says so', async () => {
    const engine = await filled(2);
    const run = temporaryFolder();
    await save(engine, join(run, 'checkpoints'), 7);
    const newer = await save(engine, join(run, 'checkpoints'), 8);
    await writeFile(join(newer, 'optimizer.safetensors'), 'x');
    const model = closedAfterTest(await openForInference(run, inference));
    expect(model.manifest?.step).toBe(7);
    expect(model.notes.join()).toContain('optimizer.safetensors');
  });

  test('opens a file of weights when told the sizes, and says which other parts it skips', async () => {
    const engine = await filled(2);
    const run = temporaryFolder();
    const path = await save(engine, run, 7);
    const file = await Safetensors.open(join(path, 'model.safetensors'));
    const tensors = await Promise.all(
      [...file.tensors.values()].map(async ({ name, shape }) => ({
        name,
        shape,
        dtype: 'F32' as const,
        data: await file.read(name),
      })),
    );
    await file.close();
    const vae = { name: 'first_stage_model.x', shape: [1], dtype: 'F32' as const, data: new Float32Array(1) };
    const whole = join(run, 'whole.safetensors');
    await writeSafetensors(whole, [...tensors, vae], {});
    await expect(openForInference(whole, inference)).rejects.toMatchObject({
      code: 'ERR_USAGE',
      message: expect.stringContaining('does not state the size of its latents'),
      hint: expect.stringContaining("a checkpoint's folder"),
    });
    const model = closedAfterTest(
      await openForInference(whole, { ...inference, latentSize: [8, 8], contextTokens: 16 }),
    );
    expect(model.notes).toEqual(['Skipped 1 tensors of the VAE (first_stage_model.*)']);
    const [a, b] = [await engine.predict(batch(1), 'master'), await model.engine.predict(batch(1), 'master')];
    expect(sameBytes(a, b)).toBe(true);
  });
});

describe('the command line', () => {
  test('inspects a checkpoint: step, plan, files and hashes, and its tensors if asked for', async () => {
    const run = temporaryFolder();
    const { path, manifest } = await saveCheckpoint(join(run, 'checkpoints'), contentOf(1000, 1));
    const text = orchestrator('checkpoint', 'inspect', run);
    expect(text.status).toBe(0);
    expect(text.stdout).toMatch(/^step +1000$/m);
    expect(text.stdout).toMatch(/^plan +version 1, seed 7, step 1000$/m);
    expect(text.stdout).toMatch(/^model +depth 2, hidden 64,/m);
    expect(text.stdout).toMatch(/^model\.safetensors +\S+ [KM]iB +\d+ tensors +sha256 [0-9a-f]{64}$/m);
    const tensor =
      /^ {2}model\.diffusion_model\.joint_blocks\.0\.x_block\.attn\.qkv\.weight +F32 +\[192, 64\]$/m;
    expect(text.stdout).not.toContain('joint_blocks.0');
    expect(orchestrator('checkpoint', 'inspect', run, '--tensors').stdout).toMatch(tensor);
    expect(text.stdout).toContain(`sha256 ${manifest.files['ema.safetensors']!.sha256}`);
    const json = JSON.parse(orchestrator('checkpoint', 'inspect', path, '--json').stdout);
    expect(json.manifest).toMatchObject({ step: 1000, config: { name: 'test' }, files: manifest.files });
    expect(json.tensors['optimizer.safetensors']).toHaveLength(2 * native().parameters(SMALL).tensors.length);
  });

  test('verifies one checkpoint, or all of a run, and exits with 1 on damage', async () => {
    const run = temporaryFolder();
    const root = join(run, 'checkpoints');
    const { path } = await saveCheckpoint(root, contentOf(1, 1));
    await saveCheckpoint(root, contentOf(2, 2));
    expect(orchestrator('checkpoint', 'verify', run)).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^ok .*step-00000002 +step 2$(.|\n)*^ok .*step-00000001 +step 1$/m),
    });
    const file = join(path, 'model.safetensors');
    const bytes = await readFile(file);
    bytes[bytes.length >> 1]! ^= 4;
    await writeFile(file, bytes);
    const bad = orchestrator('checkpoint', 'verify', path);
    expect(bad.status).toBe(1);
    expect(bad.stdout).toMatch(/^bad .*ERR_CHECKPOINT_DAMAGED: .*model\.safetensors: has the SHA-256/m);
    const all = orchestrator('checkpoint', 'verify', run, '--json');
    expect(all.status).toBe(1);
    expect(JSON.parse(all.stdout).map(({ ok }: { ok: boolean }) => ok)).toEqual([true, false]);
    const nothing = orchestrator('checkpoint', 'verify', join(run, 'nothing'));
    expect(nothing).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('error ERR_CHECKPOINT_MISSING'),
    });
  });

  test('inspects a file of weights, and refuses one that is none', async () => {
    const file = `${FIXTURES}sd3-medium-like.weights.safetensors`;
    const text = orchestrator('model', 'inspect', file);
    expect(text.status).toBe(0);
    expect(text.stdout).toMatch(/^model +depth 2, hidden 128, .*qk_norm none/m);
    expect(text.stdout).not.toContain('pos_embed +F32');
    expect(orchestrator('model', 'inspect', file, '--tensors').stdout).toMatch(
      /pos_embed +F32 +\[1, 256, 128\]/,
    );
    expect(JSON.parse(orchestrator('model', 'inspect', file, '--json').stdout).model.hidden).toBe(128);
    const wrong = orchestrator('model', 'inspect', `${FIXTURES}sd3-medium-like.case.safetensors`);
    expect(wrong).toMatchObject({ status: 1, stderr: expect.stringContaining('error ERR_MODEL_TENSORS') });
  });

  test('refuses a case of other shapes than the model, naming file and tensor', async () => {
    const out = join(temporaryFolder(), 'out.safetensors');
    const weights = `${FIXTURES}sd3-medium-like.weights.safetensors`;
    const wrongCase = join(temporaryFolder(), 'case.safetensors');
    const data = new Float32Array(3);
    await writeSafetensors(wrongCase, [{ name: 'x0', dtype: 'F32', shape: [1, 1, 1, 3], data }], {});
    const wrong = orchestrator('model', 'eval', '--weights', weights, '--case', wrongCase, '--out', out);
    expect(wrong.status).toBe(1);
    expect(wrong.stderr).toMatch(
      /^error ERR_TENSOR_SHAPE: .*case\.safetensors: .*"x0" .*\[1, 1, 1, 3\]; expected \[samples, 16/,
    );
    const swapped = orchestrator('model', 'eval', '--weights', wrongCase, '--case', weights, '--out', out);
    expect(swapped).toMatchObject({ status: 1, stderr: expect.stringContaining('error ERR_MODEL_TENSORS') });
  });
});
