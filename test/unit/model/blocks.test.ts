import { expect, test } from 'vitest';
import { blockBounds, blockOf, logitBounds } from '../../../src/model/blocks.js';
import type { EngineLayout } from '../../../src/native/contract.js';

/** The layout of parameters that follow one another, each with 16 elements. */
const layoutOf = (names: string[]) =>
  ({
    tensors: names.map((name, i) => ({ name, shape: [16], offset: 32 * i, length: 16 })),
  }) as unknown as EngineLayout;

test('parameters by block, and outside of the blocks by module', () => {
  const names = [
    'final_layer.linear.weight',
    'final_layer.linear.bias',
    'joint_blocks.1.x_block.attn.qkv.weight',
    'joint_blocks.1.context_block.attn.ln_k.weight',
    'joint_blocks.0.x_block.mlp.fc1.bias',
    'x_embedder.proj.bias',
  ];
  expect(names.map(blockOf)).toEqual([
    'final_layer',
    'final_layer',
    'block 1',
    'block 1',
    'block 0',
    'x_embedder',
  ]);
  expect(blockBounds(layoutOf(names))).toEqual({
    names: ['final_layer', 'block 1', 'block 0', 'x_embedder'],
    bounds: Float64Array.from([0, 48, 64, 112, 128, 144, 160, 176]),
  });
});

test('the bound of the logits: 8 max |gamma_q gamma_k|, of the queries of a stream with the keys of both', async () => {
  const gammas: Record<string, number[]> = {
    'joint_blocks.0.context_block.attn.ln_q.weight': [1, -2, 0],
    'joint_blocks.0.context_block.attn.ln_k.weight': [1, 1, 5],
    'joint_blocks.0.x_block.attn.ln_q.weight': [3, 0, 1],
    'joint_blocks.0.x_block.attn.ln_k.weight': [1, -4, 0],
    'joint_blocks.0.x_block.attn2.ln_q.weight': [0.5, 1, 1],
    'joint_blocks.0.x_block.attn2.ln_k.weight': [1, 0.25, 0],
    'joint_blocks.0.x_block.mlp.fc1.weight': [100, 100, 100],
  };
  const bounds = await logitBounds(layoutOf(Object.keys(gammas)), (name) => Float32Array.from(gammas[name]!));
  expect(Object.fromEntries(bounds)).toEqual({
    // The second channel: -2 with the image's key -4.
    'block 0 text': 64,
    // The third channel: 1 with the text's key 5.
    'block 0 image': 40,
    'block 0 attn2 image': 4,
  });
  expect(
    await logitBounds(layoutOf(['joint_blocks.0.x_block.attn.qkv.weight']), () => new Float32Array()),
  ).toEqual(new Map());
});
