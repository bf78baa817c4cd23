/** Weights as people have them: in F8, wrapped, in variants; and files that hold something else. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { locateWeights } from '../../src/engine/inference.js';
import type { Dtype } from '../../src/formats/safetensors/dtype.js';
import { Safetensors } from '../../src/formats/safetensors/file.js';
import { type TensorSource, writeSafetensors } from '../../src/formats/safetensors/write.js';
import { openFiles } from '../../src/model/files.js';
import { type TransferOptions, writeWeights } from '../../src/model/transfer.js';
import { Weights, withWeights } from '../../src/model/weights.js';
import { temporaryFolder } from '../support/folders.js';

const OFFICIAL = 'test/fixtures/mmdit/sd35-medium-like.weights.safetensors';
const PREFIX = 'model.diffusion_model.';
const SAME: TransferOptions = {
  format: 'official',
  dtype: null,
  shardBytes: null,
  sampleSize: 16,
  training: null,
};

let folder: string;
let files = 0;
beforeEach(() => {
  folder = temporaryFolder();
});

async function tensorsOf(path: string): Promise<(TensorSource & { data: Uint8Array })[]> {
  const { tensors: file } = await openFiles(path);
  const found: (TensorSource & { data: Uint8Array })[] = [];
  for (const { name, shape, dtype, begin, end } of file.tensors.values()) {
    const data = new Uint8Array(end - begin);
    await file.readBytes(name, 0, data);
    found.push({ name, shape, dtype, data });
  }
  await file.close();
  return found;
}

async function write(name: string, tensors: TensorSource[]): Promise<string> {
  const path = join(folder, name);
  await writeSafetensors(path, tensors, {});
  return path;
}

/** The official file, and one in diffusers' folder. */
async function diffusers(): Promise<string> {
  const path = join(folder, 'diffusers');
  await withWeights(OFFICIAL, (weights) => writeWeights(weights, path, { ...SAME, format: 'diffusers' }));
  return path;
}

const tiny = (name: string, dtype: Dtype = 'F32'): TensorSource => ({
  ...{ name, dtype, shape: [8] },
  data: new Uint8Array({ F32: 32, F4: 4, F6_E2M3: 6, F8_E8M0: 8, C64: 64 }[dtype as 'F4'] ?? 8),
});

describe('F8', () => {
  const scaledName = `${PREFIX}joint_blocks.0.x_block.mlp.fc1.weight`;
  /** The official file with this matrix in F8, all bytes of which mean 1, and beside it more tensors. */
  const withF8 = async (more: TensorSource[]) => {
    const tensors = await tensorsOf(OFFICIAL);
    const at = tensors.findIndex(({ name }) => name === scaledName);
    const { shape } = tensors[at]!;
    const data = new Uint8Array(shape.reduce((a, b) => a * b, 1)).fill(0x38);
    tensors[at] = { name: scaledName, dtype: 'F8_E4M3', shape, data };
    return { path: await write(`f8-${files++}.safetensors`, [...tensors, ...more]), rows: shape[0]! };
  };
  const official = scaledName.slice(PREFIX.length);
  const readMatrix = (path: string) =>
    withWeights(path, async (weights) => {
      weights.requireFloats();
      const { elements } = weights.files.entry(scaledName);
      const into = new Float32Array(elements);
      await weights.read(official, into);
      return into;
    });

  test('is read as the floats it stands for, and imported as it is', async () => {
    const { path } = await withF8([]);
    expect(new Set(await readMatrix(path))).toEqual(new Set([1]));
    const out = join(folder, 'out.safetensors');
    await withWeights(path, (weights) => writeWeights(weights, out, SAME));
    const file = await Safetensors.open(out);
    expect(file.entry(scaledName).dtype).toBe('F8_E4M3');
    await file.close();
    expect(new Set(await readMatrix(out))).toEqual(new Set([1]));
  });

  test.each(['scale_weight', 'weight_scale'])('is multiplied by one %s', async (name) => {
    const scale = `${scaledName.replace(/\.weight$/, '')}.${name}`;
    const { path } = await withF8([
      { name: scale, dtype: 'F32', shape: [], data: Float32Array.of(0.375) },
      { name: scale.replace(name, 'scale_input'), dtype: 'F32', shape: [], data: Float32Array.of(2) },
      { name: `${PREFIX}scaled_fp8`, dtype: 'F8_E4M3', shape: [0], data: new Uint8Array(0) },
    ]);
    expect(new Set(await readMatrix(path))).toEqual(new Set([0.375]));
    // Imported in fp32, in which nothing is lost, or as asked for.
    for (const [dtype, type] of [
      [null, 'F32'],
      ['BF16', 'BF16'],
    ] as const) {
      const out = join(folder, `${type}.safetensors`);
      await withWeights(path, (weights) => writeWeights(weights, out, { ...SAME, dtype }));
      const file = await Safetensors.open(out);
      expect(file.entry(scaledName).dtype).toBe(type);
      await file.close();
      expect(new Set(await readMatrix(out))).toEqual(new Set([0.375]));
    }
  });

  test('is multiplied by a scale for each row; scales of blocks are refused', async () => {
    const name = scaledName.replace('.weight', '.weight_scale');
    const { rows } = await withF8([]);
    const scales = Float32Array.from({ length: rows }, (_, row) => row / 64);
    const { path } = await withF8([{ name, dtype: 'F32', shape: [rows, 1], data: scales }]);
    const values = await readMatrix(path);
    const width = values.length / rows;
    expect([0, width - 1, width, values.length - 1].map((i) => values[i])).toEqual([
      0,
      0,
      1 / 64,
      scales.at(-1),
    ]);
    // In diffusers' layout, in which rows move.
    const theirs = join(folder, 'theirs');
    await withWeights(path, (weights) => writeWeights(weights, theirs, { ...SAME, format: 'diffusers' }));
    await withWeights(theirs, async (weights) => {
      const back = new Float32Array(values.length);
      await weights.read(official, back);
      expect(back).toEqual(values);
    });
    const { path: blocks } = await withF8([{ name, dtype: 'F32', shape: [2, 2], data: new Float32Array(4) }]);
    await expect(readMatrix(blocks)).rejects.toThrow(
      /weight_scale" has the shape \[2, 2\]; expected one scale/,
    );
  });
});

describe('names', () => {
  const wrappers = [
    '_orig_mod.',
    'module.',
    'module._orig_mod.',
    'transformer.',
    'model.diffusion_model.',
    'diffusion_model.',
    'model.',
    '_fsdp_wrapped_module.module.',
  ];

  test.each(wrappers)('of both layouts are found behind %s', async (wrapper) => {
    for (const path of [OFFICIAL, await diffusers()]) {
      const plain = (await tensorsOf(path)).map((tensor) => ({
        ...tensor,
        name: wrapper + tensor.name.replace(PREFIX, ''),
      }));
      const wrapped = await Weights.open(await write(`${wrapper}${plain.length}.safetensors`, plain));
      const usual = await Weights.open(path);
      expect(wrapped.spec).toEqual(usual.spec);
      expect([...wrapped.tensors.shapes.keys()].sort()).toEqual([...usual.tensors.shapes.keys()].sort());
      await wrapped.close();
      await usual.close();
    }
  });

  test('may have a wrapper around each block', async () => {
    const tensors = (await tensorsOf(OFFICIAL)).map((tensor) => ({
      ...tensor,
      name: tensor.name.replace(/(joint_blocks\.\d+\.)/, '$1_checkpoint_wrapped_module.'),
    }));
    const weights = await Weights.open(await write('blocks.safetensors', tensors));
    expect(weights.spec.depth).toBe(2);
    await weights.close();
  });

  test('beside them, other parts may hold anything', async () => {
    const others = (['F4', 'F6_E2M3', 'F8_E8M0', 'C64'] as const).map((type) => tiny(`vae.${type}`, type));
    const path = await write('all.safetensors', [...(await tensorsOf(OFFICIAL)), ...others]);
    const weights = await Weights.open(path);
    weights.requireFloats();
    expect(weights.notes).toEqual(['Skipped 4 tensors of the VAE (vae.*)']);
    await weights.close();
  });
});

describe('a folder', () => {
  const STEM = 'diffusion_pytorch_model';

  test.each([
    ['a variant', [[`${STEM}.fp16.safetensors`, null]]],
    [
      'a sharded variant',
      [
        [`${STEM}.fp16-00001-of-00002.safetensors`, 0],
        [`${STEM}.fp16-00002-of-00002.safetensors`, 1],
      ],
    ],
  ] as [string, [string, number | null][]][])('with %s is opened', async (_, files) => {
    const tensors = await tensorsOf(await diffusers());
    const map: Record<string, string> = {};
    for (const [file, part] of files) {
      const some = tensors.filter((_, i) => part === null || i % 2 === part);
      await write(file, some);
      for (const { name } of some) map[name] = file;
    }
    if (files.length > 1) {
      const index = join(folder, `${STEM}.safetensors.index.fp16.json`);
      await writeFile(index, JSON.stringify({ weight_map: map }));
    }
    const weights = await Weights.open(folder);
    expect(weights.tensors.names.size).toBe(tensors.length);
    await weights.close();
  });

  test('with several variants, or with parts that no index joins, is refused', async () => {
    await write(`${STEM}.fp16.safetensors`, [tiny('a')]);
    await write(`${STEM}.bf16.safetensors`, [tiny('a')]);
    await expect(openFiles(folder)).rejects.toMatchObject({
      code: 'ERR_FILE_OPEN',
      hint: 'Name the file itself',
    });
    const parts = join(folder, 'parts');
    await mkdir(parts);
    for (const n of [1, 2]) await write(`parts/${STEM}-0000${n}-of-00002.safetensors`, [tiny('a')]);
    await expect(openFiles(parts)).rejects.toThrow(/without their index, \*\.safetensors\.index\.json/);
  });

  test('of a pipeline with a UNet is named as one', async () => {
    await mkdir(join(folder, 'unet'));
    await writeFile(join(folder, 'model_index.json'), '{}');
    await expect(openFiles(folder)).rejects.toMatchObject({ hint: expect.stringContaining('a folder unet') });
  });
});

test('a path may begin with the home folder', async () => {
  await write('mine.safetensors', [tiny('a')]);
  const { HOME } = process.env;
  process.env.HOME = folder;
  try {
    const { path } = await locateWeights('~/mine.safetensors', null);
    expect(path).toBe(join(folder, 'mine.safetensors'));
  } finally {
    process.env.HOME = HOME;
  }
});

test.each([
  ['transformer.transformer_blocks.0.attn.to_q.lora_A.weight', /a LoRA or another adapter/, /fuse_lora/],
  ['lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight', /a LoRA/, /Merge it/],
  ['controlnet_blocks.0.weight', /a ControlNet/, /transformer/],
  ['double_blocks.0.img_attn.qkv.weight', /a FLUX model/, null],
  ['model.diffusion_model.input_blocks.0.0.weight', /a UNet/, null],
  ['encoder.conv_in.weight', /an autoencoder/, /transformer/],
  ['text_model.encoder.layers.0.mlp.fc1.weight', /a text encoder/, /transformer/],
  ['encoder.block.0.layer.0.SelfAttention.q.weight', /a text encoder/, /transformer/],
  ['blocks.0.attn.qkv.weight', /one stream of tokens/, null],
  ['latents', /latents, not weights/, null],
  ['anything', /this is not an MM-DiT/, null],
])('a file with %s is named as what it is', async (name, message, hint) => {
  const path = await write('x.safetensors', [tiny(name)]);
  await expect(Weights.open(path)).rejects.toMatchObject({
    code: 'ERR_MODEL_TENSORS',
    message: expect.stringMatching(message),
    hint: hint === null ? null : expect.stringMatching(hint),
  });
});

test('a LoRA is named as one even beside the tensors of a model', async () => {
  const lora = tiny('transformer_blocks.0.attn.to_q.lora_B.weight');
  const path = await write('x.safetensors', [...(await tensorsOf(await diffusers())), lora]);
  await expect(Weights.open(path)).rejects.toThrow(/a LoRA/);
});

test.each([
  ['model.ckpt', 'PK\x03\x04 archive/data.pkl', /a zip archive, as torch\.save writes/],
  ['model.pt', '\x80\x02}q\x00.more bytes', /a pickle/],
  ['model.gguf', 'GGUF\x03\x00\x00\x00 and so on', /a GGUF file/],
  ['model.safetensors', 'version https://git-lfs.github.com/spec/v1\noid sha256:0', /a pointer of Git LFS/],
  ['page.safetensors', '<!DOCTYPE html><html></html>', /a web page/],
  ['config.json', '{"weight_map": {}}', /a JSON file/],
])('%s of another format is named as what it is', async (name, content, message) => {
  const path = join(folder, name);
  await writeFile(path, content, 'latin1');
  await expect(Weights.open(path)).rejects.toMatchObject({
    code: 'ERR_SAFETENSORS',
    message: expect.stringMatching(message),
  });
});
