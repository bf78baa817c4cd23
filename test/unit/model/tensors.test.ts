import { describe, expect, test } from 'vitest';
import { officialTensors } from '../../../src/model/backbones.js';
import { describeSkipped, modelSpecFromTensors, modelTensors } from '../../../src/model/recognise.js';
import { RELEASED, releasedName } from '../../../src/model/released.js';
import { describeModel, OFFICIAL_PREFIX, sameModel } from '../../../src/model/tensors.js';
import type { ModelSpec } from '../../../src/native/contract.js';
import { native } from '../../../src/native/load.js';

const {
  'SD3-medium': MEDIUM,
  'SD3.5-medium': MEDIUM_35,
  'SD3.5-large': LARGE_35,
} = RELEASED as Record<'SD3-medium' | 'SD3.5-medium' | 'SD3.5-large', ModelSpec>;

const shapesOf = (spec: ModelSpec) => new Map(officialTensors(spec).map(({ name, shape }) => [name, shape]));

describe('the released models', () => {
  // Tensors, parameters and elements with pos_embed of the released files.
  test.each([
    ['SD3-medium', MEDIUM, 491, 2_028_328_000, 2_084_951_104],
    ['SD3.5-medium', MEDIUM_35, 665, 2_243_171_520, 2_469_663_936],
    ['SD3.5-large', LARGE_35, 923, 8_056_627_520, 8_146_280_768],
  ])('%s has the official tensors', (name, spec, tensors, parameters, withPositions) => {
    expect(officialTensors(spec)).toHaveLength(tensors);
    expect(new Set(officialTensors(spec).map(({ name }) => name)).size).toBe(tensors);
    const [positions] = officialTensors(spec);
    expect(native().parameters(spec).parameters).toBe(parameters);
    expect(parameters + positions!.shape.reduce((product, side) => product * side, 1)).toBe(withPositions);
    expect(releasedName(spec)).toBe(name);
  });

  test.each([
    ['SD3-medium', MEDIUM],
    ['SD3.5-medium', MEDIUM_35],
    ['SD3.5-large', LARGE_35],
    [
      'an odd one',
      { ...MEDIUM, depth: 3, heads: 5, patch: 4, latentChannels: 8, posEmbedMaxSize: 7, dualAttention: [1] },
    ],
  ] as [string, ModelSpec][])('%s is read off its names and shapes', (_, spec) => {
    expect(modelSpecFromTensors(shapesOf(spec), 'x')).toEqual(spec);
  });
});

describe('files that do not fit', () => {
  test('lists missing, misshapen and unexpected tensors with the expected shape', () => {
    const shapes = new Map<string, readonly number[]>(shapesOf(MEDIUM_35));
    shapes.delete('joint_blocks.3.x_block.mlp.fc1.bias');
    shapes.set('joint_blocks.4.x_block.attn2.proj.weight', [1536, 1535]);
    shapes.set('joint_blocks.23.context_block.mlp.fc1.bias', [6144]);
    expect(() => modelSpecFromTensors(shapes, 'w.safetensors')).toThrow(
      expect.objectContaining({ code: 'ERR_MODEL_TENSORS' }),
    );
    try {
      modelSpecFromTensors(shapes, 'w.safetensors');
    } catch (error) {
      const lines = (error as Error).message.split('\n');
      expect(lines[0]).toMatch(/^w\.safetensors: .*depth 24, hidden 1536/);
      expect(lines).toContain('1 missing:');
      expect(lines).toContain('  joint_blocks.3.x_block.mlp.fc1.bias [6144]');
      expect(lines).toContain('1 misshapen:');
      expect(lines).toContain(
        '  joint_blocks.4.x_block.attn2.proj.weight [1536, 1535], expected [1536, 1536]',
      );
      expect(lines).toContain('1 unexpected:');
      expect(lines).toContain('  "joint_blocks.23.context_block.mlp.fc1.bias" [6144]');
    }
  });

  test('is not led to a huge list by a huge block number', () => {
    const shapes = new Map<string, readonly number[]>(shapesOf({ ...MEDIUM, depth: 2, heads: 2 }));
    shapes.set('joint_blocks.999999999.x_block.attn.qkv.bias', [3]);
    expect(() => modelSpecFromTensors(shapes, 'w')).toThrow(/joint_blocks\.999999999/);
  });

  test('names the file where its sizes are beyond what the program can compute', () => {
    const shapes = new Map<string, readonly number[]>(shapesOf(MEDIUM));
    shapes.set('context_embedder.weight', [1536, 2 ** 21]);
    expect(() => modelSpecFromTensors(shapes, 'w.safetensors')).toThrow(
      expect.objectContaining({
        code: 'ERR_MODEL_TENSORS',
        message: 'w.safetensors: context_dim must be between 1 and 1048576, received 2097152',
      }),
    );
  });

  test.each([
    ['pos_embed', [1, 10, 1536], /not the square/],
    ['pos_embed', [100], /3 sides/],
    ['x_embedder.proj.weight', [1500, 16, 2, 2], /multiple/],
    ['context_embedder.weight', [1536, 0], /context_embedder/],
  ])('refuses %s of shape %j', (name, shape, message) => {
    const shapes = new Map<string, readonly number[]>(shapesOf(MEDIUM));
    shapes.set(name, shape);
    expect(() => modelSpecFromTensors(shapes, 'w')).toThrow(message);
  });
});

describe('what else a file holds', () => {
  const entry = (shape: number[]) => ({ shape });
  const file = (names: string[]) => new Map(names.map((name) => [name, entry([1])]));

  test('strips the prefix, and skips VAE and text encoders aloud', () => {
    const tensors = modelTensors(
      file([
        `${OFFICIAL_PREFIX}x_embedder.proj.weight`,
        'first_stage_model.decoder.conv_in.weight',
        'text_encoders.clip_l.transformer.x',
        'text_encoders.t5xxl.transformer.x',
      ]),
      'w',
    );
    expect([...tensors.names]).toEqual([
      ['x_embedder.proj.weight', 'model.diffusion_model.x_embedder.proj.weight'],
    ]);
    expect(describeSkipped(tensors.skipped)).toEqual([
      'Skipped 1 tensors of the VAE (first_stage_model.*) and 2 tensors of the text encoders (text_encoders.*)',
    ]);
  });

  test('accepts names without the prefix, but not both', () => {
    expect(modelTensors(file(['x_embedder.proj.weight']), 'w').names.size).toBe(1);
    const both = file(['x_embedder.proj.weight', `${OFFICIAL_PREFIX}x_embedder.proj.weight`]);
    expect(() => modelTensors(both, 'w')).toThrow(/same tensor/);
  });

  test('tells whose names they are, and refuses what has neither or both', () => {
    const official = 'x_embedder.proj.weight';
    const diffusers = 'pos_embed.proj.weight';
    expect(modelTensors(file([official]), 'w').format).toBe('official');
    expect(modelTensors(file([diffusers]), 'w').format).toBe('diffusers');
    const refused = expect.objectContaining({ code: 'ERR_MODEL_TENSORS' });
    expect(() => modelTensors(file([official, diffusers]), 'w')).toThrow(refused);
    expect(() => modelTensors(file(['vae.conv.weight']), 'w')).toThrow(refused);
  });
});

test('models differ in their backbone alone, which the addon must know', () => {
  const other = { ...MEDIUM, backbone: 'other' };
  expect(sameModel(MEDIUM, { ...MEDIUM })).toBe(true);
  expect(sameModel(MEDIUM, other)).toBe(false);
  expect(describeModel(other)).toBe(`backbone other, ${describeModel(MEDIUM)}`);
  expect(() => native().parameters(other)).toThrow(
    expect.objectContaining({
      code: 'ERR_MODEL_SPEC',
      message: expect.stringMatching(/one of mmdit.*other$/),
    }),
  );
});
