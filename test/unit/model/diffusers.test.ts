import { describe, expect, test } from 'vitest';
import { invert } from '../../../src/model/assembly.js';
import { diffusersLayout, fileTensors, officialTensors } from '../../../src/model/backbones.js';
import { modelSpecFromTensors } from '../../../src/model/recognise.js';
import { RELEASED } from '../../../src/model/released.js';
import { checkConfig } from '../../../src/model/weights.js';
import type { ModelSpec } from '../../../src/native/contract.js';

/** Elements of all tensors. */
function elementCount(tensors: readonly { shape: readonly number[] }[]): number {
  return tensors.reduce((sum, { shape }) => sum + shape.reduce((product, side) => product * side, 1), 0);
}

const MODELS = Object.entries(RELEASED);

describe.each(MODELS)("diffusers' %s", (_, spec) => {
  const tensors = fileTensors(spec, 'diffusers');
  const shapes = new Map(tensors.map(({ name, shape }) => [name, shape]));

  test('is read off its names and shapes', () => {
    expect(new Set(tensors.map(({ name }) => name)).size).toBe(tensors.length);
    expect(modelSpecFromTensors(shapes, 'x', 'diffusers')).toEqual(spec);
    expect(elementCount(tensors)).toBe(elementCount(officialTensors(spec)));
  });

  test('uses every official row once, and turns back into the official tensors', () => {
    const back = invert(tensors, officialTensors(spec));
    for (const { name, shape, pieces } of back) {
      expect(
        pieces.reduce((rows, piece) => rows + piece.rows, 0),
        name,
      ).toBe(shape[0]);
    }
    // Splitting and swapping twice is the identity.
    const official = invert(back, tensors);
    expect(official.map(({ pieces }) => pieces)).toEqual(tensors.map(({ pieces }) => pieces));
  });
});

describe('pieces', () => {
  const spec = RELEASED['SD3.5-medium'] as ModelSpec;
  const tensors = new Map(fileTensors(spec, 'diffusers').map((tensor) => [tensor.name, tensor]));
  const last = spec.depth - 1;

  test.each([
    ['transformer_blocks.3.attn.to_k.weight', 'joint_blocks.3.x_block.attn.qkv.weight', [[1536, 1536]]],
    [
      'transformer_blocks.3.attn.add_v_proj.bias',
      'joint_blocks.3.context_block.attn.qkv.bias',
      [[3072, 1536]],
    ],
    ['transformer_blocks.12.attn2.to_q.weight', 'joint_blocks.12.x_block.attn2.qkv.weight', [[0, 1536]]],
    ['transformer_blocks.12.attn2.to_out.0.weight', 'joint_blocks.12.x_block.attn2.proj.weight', [[0, 1536]]],
    [
      'transformer_blocks.12.norm1.linear.weight',
      'joint_blocks.12.x_block.adaLN_modulation.1.weight',
      [[0, 13824]],
    ],
    [
      'transformer_blocks.0.norm1_context.linear.weight',
      'joint_blocks.0.context_block.adaLN_modulation.1.weight',
      [[0, 9216]],
    ],
    // (scale, shift) there, (shift, scale) here.
    [
      `transformer_blocks.${last}.norm1_context.linear.bias`,
      `joint_blocks.${last}.context_block.adaLN_modulation.1.bias`,
      [
        [1536, 1536],
        [0, 1536],
      ],
    ],
    [
      'norm_out.linear.weight',
      'final_layer.adaLN_modulation.1.weight',
      [
        [1536, 1536],
        [0, 1536],
      ],
    ],
    ['time_text_embed.text_embedder.linear_1.weight', 'y_embedder.mlp.0.weight', [[0, 1536]]],
    ['pos_embed.proj.bias', 'x_embedder.proj.bias', [[0, 1536]]],
    ['pos_embed.pos_embed', 'pos_embed', [[0, 1]]],
    ['proj_out.weight', 'final_layer.linear.weight', [[0, 64]]],
  ])('%s', (name, official, rows) => {
    expect(tensors.get(name)?.pieces).toEqual(
      rows.map(([firstRow, count]) => ({ tensor: official, firstRow, rows: count })),
    );
  });

  test('leaves the last context side without projection and MLP', () => {
    expect(tensors.has(`transformer_blocks.${last}.attn.to_add_out.weight`)).toBe(false);
    expect(tensors.has(`transformer_blocks.${last}.ff_context.net.2.weight`)).toBe(false);
    expect(tensors.has(`transformer_blocks.${last}.attn.norm_added_q.weight`)).toBe(true);
  });
});

test('refuses a backbone that diffusers does not have', () => {
  expect(() => diffusersLayout({ backbone: 'other' })).toThrow(
    expect.objectContaining({
      code: 'ERR_MODEL_TENSORS',
      message: expect.stringContaining('backbone other'),
    }),
  );
});

describe('config.json', () => {
  const [, medium] = MODELS[0] as [string, ModelSpec];

  test('agrees with itself, and with files that leave out what is none', () => {
    const config = diffusersLayout(medium).config(medium);
    checkConfig(config, medium, 'config.json');
    const { dual_attention_layers: _, qk_norm: __, ...older } = config;
    checkConfig(older, medium, 'config.json');
  });

  test('lists the keys that say something else than the tensors', () => {
    const config = {
      ...diffusersLayout(medium).config(medium),
      num_layers: 38,
      qk_norm: 'rms_norm',
      patch_size: undefined,
    };
    expect(() => checkConfig(config, medium, 'f/config.json')).toThrow(
      expect.objectContaining({
        code: 'ERR_MODEL_TENSORS',
        message: expect.stringMatching(
          /^f\/config\.json: [\s\S]*num_layers is 38; the tensors say 24[\s\S]*patch_size is nothing[\s\S]*qk_norm is "rms_norm"; the tensors say null$/,
        ),
      }),
    );
    expect(() => checkConfig([], medium, 'c')).toThrow(
      expect.objectContaining({ code: 'ERR_MODEL_TENSORS' }),
    );
  });
});
