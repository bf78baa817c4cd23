/**
 * Weights of others: diffusers' folders, shards with an index, types, and files with more than a model
 * inside.
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { readCase } from '../../src/engine/case.js';
import { locateWeights } from '../../src/engine/inference.js';
import { loadWeights } from '../../src/engine/load.js';
import { inferenceSpec } from '../../src/engine/spec.js';
import { Safetensors } from '../../src/formats/safetensors/file.js';
import { type TensorSource, writeSafetensors } from '../../src/formats/safetensors/write.js';
import { openFiles } from '../../src/model/files.js';
import { type TransferOptions, writeWeights } from '../../src/model/transfer.js';
import { Weights, withWeights } from '../../src/model/weights.js';
import { native } from '../../src/native/load.js';
import { temporaryFolder } from '../support/folders.js';

const FIXTURES = new URL('../fixtures/mmdit/', import.meta.url).pathname;
const MODELS = ['sd3-medium-like', 'sd35-medium-like', 'sd35-large-like'];
const weightsOf = (name: string) => join(FIXTURES, `${name}.weights.safetensors`);
const SAME: TransferOptions = {
  format: 'official',
  dtype: null,
  shardBytes: null,
  sampleSize: 16,
  training: null,
};
const DIFFUSERS: TransferOptions = { ...SAME, format: 'diffusers' };

let folder: string;
beforeEach(() => {
  folder = temporaryFolder();
});

async function convert(from: string, to: string, options: TransferOptions) {
  const weights = await Weights.open(from);
  try {
    return await writeWeights(weights, to, options);
  } finally {
    await weights.close();
  }
}

/** Bytes by tensor name. */
async function bytesOf(path: string): Promise<Map<string, Buffer>> {
  const { tensors } = await openFiles(path);
  const result = new Map<string, Buffer>();
  for (const { name, begin, end, dtype, shape } of tensors.tensors.values()) {
    const bytes = new Uint8Array(end - begin);
    await tensors.readBytes(name, 0, bytes);
    result.set(`${name} ${dtype} [${shape.join(', ')}]`, Buffer.from(bytes));
  }
  await tensors.close();
  return result;
}

async function expectSameTensors(a: string, b: string): Promise<void> {
  const [left, right] = [await bytesOf(a), await bytesOf(b)];
  expect([...right.keys()].sort()).toEqual([...left.keys()].sort());
  for (const [name, bytes] of left) expect(bytes.equals(right.get(name) as Buffer), name).toBe(true);
}

async function tensorsOf(path: string): Promise<TensorSource[]> {
  const file = await Safetensors.open(path);
  const tensors: TensorSource[] = [];
  for (const { name, shape, dtype, begin, end } of file.tensors.values()) {
    const data = new Uint8Array(end - begin);
    await file.readBytes(name, 0, data);
    tensors.push({ name, shape, dtype, data });
  }
  await file.close();
  return tensors;
}

describe.each(MODELS)('%s', (name) => {
  test.each([null, 'F32', 'F16', 'BF16'] as const)(
    'official -> diffusers -> official is bit-identical (%s)',
    async (dtype) => {
      const start = join(folder, 'start.safetensors');
      await convert(weightsOf(name), start, { ...SAME, dtype });
      // Small shards, so that there are several files.
      await convert(start, join(folder, 'diffusers'), { ...DIFFUSERS, shardBytes: 300_000 });
      const files = await readdir(join(folder, 'diffusers'));
      expect(files).toContain('config.json');
      expect(files).toContain('diffusion_pytorch_model.safetensors.index.json');
      expect(files.length).toBeGreaterThan(4);
      await convert(join(folder, 'diffusers'), join(folder, 'end.safetensors'), SAME);
      if (dtype === null) await expectSameTensors(weightsOf(name), join(folder, 'end.safetensors'));
      const [first, last] = [await readFile(start), await readFile(join(folder, 'end.safetensors'))];
      expect(first.equals(last)).toBe(true);
    },
  );

  test("gives the same velocity from diffusers' folder", async () => {
    await convert(weightsOf(name), join(folder, 'diffusers'), DIFFUSERS);
    const weights = await Weights.open(weightsOf(name));
    const { spec } = weights;
    await weights.close();
    const input = await readCase(join(FIXTURES, `${name}.case.safetensors`), spec);
    const run = async (path: string) => {
      const { latentHeight, latentWidth, contextTokens, samples: microBatch } = input;
      const engine = await native().createEngine(
        inferenceSpec({ model: spec, latentHeight, latentWidth, contextTokens, microBatch }),
      );
      await withWeights(path, (weights) => loadWeights(engine, weights));
      const { velocity } = await engine.evaluateCase(input.batch, input.target, false);
      await engine.close();
      return Buffer.from(velocity.buffer, velocity.byteOffset, velocity.byteLength);
    };
    expect((await run(weightsOf(name))).equals(await run(join(folder, 'diffusers')))).toBe(true);
  });
});

describe("diffusers' folder", () => {
  const name = 'sd35-medium-like';

  test('splits qkv, and swaps shift and scale', async () => {
    await convert(weightsOf(name), join(folder, 'd'), DIFFUSERS);
    const official = await Safetensors.open(weightsOf(name));
    const theirs = await Safetensors.open(join(folder, 'd', 'diffusion_pytorch_model.safetensors'));
    const prefix = 'model.diffusion_model.';
    const qkv = await official.read(`${prefix}joint_blocks.0.x_block.attn2.qkv.weight`);
    const k = await theirs.read('transformer_blocks.0.attn2.to_k.weight');
    expect([...k]).toEqual([...qkv.subarray(qkv.length / 3, (2 * qkv.length) / 3)]);
    const shiftScale = await official.read(`${prefix}final_layer.adaLN_modulation.1.bias`);
    const scaleShift = await theirs.read('norm_out.linear.bias');
    const half = shiftScale.length / 2;
    expect([...scaleShift]).toEqual([...shiftScale.subarray(half), ...shiftScale.subarray(0, half)]);
    expect(shiftScale.subarray(half)).not.toEqual(shiftScale.subarray(0, half));
    await official.close();
    await theirs.close();
    const config = JSON.parse(await readFile(join(folder, 'd', 'config.json'), 'utf8'));
    expect(config).toMatchObject({
      _class_name: 'SD3Transformer2DModel',
      qk_norm: 'rms_norm',
      sample_size: 16,
    });
    expect(config.dual_attention_layers.length).toBeGreaterThan(0);
  });

  test('is found in the folder of a pipeline', async () => {
    await mkdir(join(folder, 'pipeline'));
    await writeFile(join(folder, 'pipeline', 'model_index.json'), '{}');
    await convert(weightsOf(name), join(folder, 'pipeline', 'transformer'), DIFFUSERS);
    await convert(join(folder, 'pipeline'), join(folder, 'o.safetensors'), SAME);
    await expectSameTensors(weightsOf(name), join(folder, 'o.safetensors'));
    // Also without the pipeline's index, as save_pretrained('DIR/transformer') leaves it.
    await rm(join(folder, 'pipeline', 'model_index.json'));
    expect((await locateWeights(join(folder, 'pipeline'), null)).path).toBe(join(folder, 'pipeline'));
    await convert(join(folder, 'pipeline'), join(folder, 'o.safetensors'), SAME);
    await expectSameTensors(weightsOf(name), join(folder, 'o.safetensors'));
  });

  test('is refused where its config.json is that of another model', async () => {
    await convert(weightsOf(name), join(folder, 'd'), DIFFUSERS);
    const path = join(folder, 'd', 'config.json');
    const config = JSON.parse(await readFile(path, 'utf8'));
    await writeFile(path, JSON.stringify({ ...config, pos_embed_max_size: 192 }));
    await expect(Weights.open(join(folder, 'd'))).rejects.toMatchObject({
      code: 'ERR_MODEL_TENSORS',
      message: expect.stringContaining('pos_embed_max_size is 192'),
    });
  });

  test('may be written with a slash or a dot at the end of its name', async () => {
    await mkdir(join(folder, 'empty'));
    for (const path of ['new/', 'empty/.']) {
      await convert(weightsOf(name), `${folder}/${path}`, DIFFUSERS);
      expect(await readdir(join(folder, path))).toContain('config.json');
    }
    expect(await readdir(folder)).toEqual(['empty', 'new']);
  });

  test('is not written over files', async () => {
    await writeFile(join(folder, 'mine.txt'), 'mine');
    await expect(convert(weightsOf(name), folder, DIFFUSERS)).rejects.toMatchObject({
      code: 'ERR_FILE_WRITE',
    });
    expect(await readdir(folder)).toEqual(['mine.txt']);
  });

  test('lists what is missing and misshapen by its own names', async () => {
    await convert(weightsOf(name), join(folder, 'd'), DIFFUSERS);
    const tensors = (await tensorsOf(join(folder, 'd', 'diffusion_pytorch_model.safetensors'))).filter(
      ({ name }) => name !== 'transformer_blocks.1.ff.net.2.bias',
    );
    const bad = tensors.find(({ name }) => name === 'proj_out.bias') as TensorSource;
    tensors[tensors.indexOf(bad)] = { ...bad, shape: [1, 64] };
    await writeSafetensors(join(folder, 'bad.safetensors'), tensors, {});
    await expect(Weights.open(join(folder, 'bad.safetensors'))).rejects.toMatchObject({
      code: 'ERR_MODEL_TENSORS',
      message: expect.stringMatching(
        /1 missing:\n {2}transformer_blocks\.1\.ff\.net\.2\.bias \[\d+\]\n1 misshapen:\n {2}proj_out\.bias \[1, 64\], expected \[64\]/,
      ),
    });
  });
});

describe('single files', () => {
  test('skips VAE and encoders, and says so', async () => {
    const model = await tensorsOf(weightsOf('sd3-medium-like'));
    const extra = (name: string) => ({ name, dtype: 'F32' as const, shape: [3], data: new Float32Array(3) });
    const all = [
      extra('first_stage_model.decoder.conv_in.bias'),
      ...model,
      extra('text_encoders.t5xxl.logit_scale'),
    ];
    await writeSafetensors(join(folder, 'all.safetensors'), all, {});
    const weights = await Weights.open(join(folder, 'all.safetensors'));
    expect(weights.notes[0]).toMatch(/1 tensors of the VAE .* 1 tensors of the text encoders/);
    await writeWeights(weights, join(folder, 'o.safetensors'), SAME);
    await weights.close();
    await expectSameTensors(weightsOf('sd3-medium-like'), join(folder, 'o.safetensors'));
  });

  test('refuses F16 for values beyond its range, and leaves no file', async () => {
    const tensors = await tensorsOf(weightsOf('sd3-medium-like'));
    const at = tensors.findIndex(({ name }) => name.endsWith('x_embedder.proj.bias'));
    const bias = tensors[at] as TensorSource;
    const data = new Float32Array(bias.shape[0] as number).fill(1e6);
    tensors[at] = { ...bias, dtype: 'F32', data };
    await writeSafetensors(join(folder, 'large.safetensors'), tensors, {});
    const out = join(folder, 'o.safetensors');
    await expect(
      convert(join(folder, 'large.safetensors'), out, { ...SAME, dtype: 'F16' }),
    ).rejects.toMatchObject({
      code: 'ERR_MODEL_TENSORS',
      message: expect.stringContaining('x_embedder.proj.bias'),
    });
    await convert(join(folder, 'large.safetensors'), out, { ...SAME, dtype: 'BF16' });
    expect((await readdir(folder)).sort()).toEqual(['large.safetensors', 'o.safetensors']);
  });
});

describe('an index', () => {
  const index = (path: string, map: unknown) => writeFile(path, JSON.stringify({ weight_map: map }));
  const tensor = (name: string) => ({ name, dtype: 'F32' as const, shape: [1], data: new Float32Array(1) });

  test.each([
    ['leads out of its folder', { a: '../a.safetensors' }, /expected the name of a \.safetensors file/],
    ['names a missing file', { a: 'b.safetensors' }, /Cannot open .*b\.safetensors/],
    [
      'names a tensor that is not there',
      { a: 'a.safetensors', c: 'a.safetensors' },
      /"c" is not in a\.safetensors/,
    ],
    ['leaves out a tensor', { a: 'a.safetensors' }, /"b" of a\.safetensors is not in the index/],
    ['has no files', {}, /names 0 files/],
    ['has no map', [], /no "weight_map"/],
  ])('that %s is refused', async (what, map, message) => {
    const extra = what === 'leaves out a tensor' ? [tensor('b')] : [];
    await writeSafetensors(join(folder, 'a.safetensors'), [tensor('a'), ...extra], {});
    const path = join(folder, 'x.safetensors.index.json');
    await index(path, map);
    await expect(openFiles(path)).rejects.toThrow(message);
  });

  test('may be asked for instead of its folder', async () => {
    await convert(weightsOf('sd3-medium-like'), join(folder, 'd'), { ...DIFFUSERS, shardBytes: 500_000 });
    const path = join(folder, 'd', 'diffusion_pytorch_model.safetensors.index.json');
    await convert(path, join(folder, 'o.safetensors'), SAME);
    await expectSameTensors(weightsOf('sd3-medium-like'), join(folder, 'o.safetensors'));
  });

  test('of no JSON, or a folder without one file, is refused', async () => {
    const path = join(folder, 'x.safetensors.index.json');
    await writeFile(path, '{');
    await expect(openFiles(path)).rejects.toMatchObject({ code: 'ERR_SAFETENSORS' });
    await rm(path);
    await expect(openFiles(folder)).rejects.toMatchObject({ code: 'ERR_FILE_OPEN' });
    for (const name of ['a', 'b'])
      await writeSafetensors(join(folder, `${name}.safetensors`), [tensor(name)], {});
    await expect(openFiles(folder)).rejects.toThrow(/2 files of weights \(a\.safetensors, b\.safetensors\)/);
  });
});
