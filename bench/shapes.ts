/**
 * The shapes of measured training steps: the demo's, and three with the tokens of 256 x 256 or 512 x 512
 * pixels.
 */
import type { EngineSpec, ModelSpec, TextSpec } from '../src/native/contract.js';

export interface BenchShape {
  name: string;
  model: ModelSpec;
  latentHeight: number;
  latentWidth: number;
  text: TextSpec;
  globalBatch: number;
  microBatch: number;
  /** Activation checkpointing in fp32 and bf16: the cheapest level with less memory than PyTorch. */
  recompute: Record<EngineSpec['precision'], EngineSpec['recompute']>;
  /** The goals that apply. */
  size: 'smallest' | 'larger';
}

const CLIP_T5: [number, number, number] = [768, 1280, 4096];

export const SHAPES: BenchShape[] = [
  {
    name: '16 + 8 tokens, batch 64, depth 4, hidden 192',
    model: model(4, 3, 160, 128),
    latentHeight: 8,
    latentWidth: 8,
    text: text(4, 4, [48, 80, 160], [48, 80]),
    globalBatch: 64,
    microBatch: 32,
    recompute: { fp32: 'nothing', bf16: 'nothing' },
    size: 'smallest',
  },
  {
    name: '256 + 77 tokens, batch 8, depth 6, hidden 384',
    model: model(6, 6, 4096, 2048),
    latentHeight: 32,
    latentWidth: 32,
    text: text(38, 39, CLIP_T5, [768, 1280]),
    globalBatch: 8,
    microBatch: 8,
    recompute: { fp32: 'nothing', bf16: 'nothing' },
    size: 'larger',
  },
  {
    name: '256 + 154 tokens, batch 4, depth 12, hidden 768',
    model: model(12, 12, 4096, 2048),
    latentHeight: 32,
    latentWidth: 32,
    text: text(77, 77, CLIP_T5, [768, 1280]),
    globalBatch: 4,
    microBatch: 4,
    recompute: { fp32: 'norms', bf16: 'norms' },
    size: 'larger',
  },
  {
    name: '1024 + 154 tokens, batch 2, depth 8, hidden 1024',
    model: model(8, 16, 4096, 2048),
    latentHeight: 64,
    latentWidth: 64,
    text: text(77, 77, CLIP_T5, [768, 1280]),
    globalBatch: 2,
    microBatch: 2,
    recompute: { fp32: 'mlp', bf16: 'norms' },
    size: 'larger',
  },
];

/** One sample of many tokens, which threads must share. */
export const ONE_SAMPLE: BenchShape = {
  name: '1024 + 154 tokens, batch 1, depth 4, hidden 384',
  model: model(4, 6, 4096, 2048),
  latentHeight: 64,
  latentWidth: 64,
  text: text(77, 77, CLIP_T5, [768, 1280]),
  globalBatch: 1,
  microBatch: 1,
  recompute: { fp32: 'nothing', bf16: 'nothing' },
  size: 'larger',
};

function model(depth: number, heads: number, contextDim: number, pooledDim: number): ModelSpec {
  return {
    backbone: 'mmdit',
    depth,
    heads,
    patch: 2,
    latentChannels: 16,
    contextDim,
    pooledDim,
    posEmbedMaxSize: 32,
    qkNorm: 'rms',
    dualAttention: [],
  };
}

/** Widths of CLIP-L, CLIP-G and T5, and of the two pooled vectors. */
function text(
  clipTokens: number,
  t5Tokens: number,
  [clipLDim, clipGDim, t5Dim]: [number, number, number],
  [clipLPooledDim, clipGPooledDim]: [number, number],
): TextSpec {
  return { clipTokens, t5Tokens, clipLDim, clipGDim, t5Dim, clipLPooledDim, clipGPooledDim };
}
