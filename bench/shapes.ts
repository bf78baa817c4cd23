/** The two shapes at which training steps are measured: the demo's, and one with as many tokens as 256 x 256 pixels have. */
import type { ModelSpec, TextSpec } from '../src/native/contract.js';

export interface BenchShape {
  name: string;
  model: ModelSpec;
  latentHeight: number;
  latentWidth: number;
  text: TextSpec;
  globalBatch: number;
  microBatch: number;
  /** What PyTorch is to be beaten by: the better of these modes, times the factor. */
  goal: { modes: PeerMode[]; factor: number };
}

export type PeerMode = 'eager' | 'compiled';

export const SHAPES: BenchShape[] = [
  {
    name: '16 + 8 tokens, batch 64, depth 4, hidden 192',
    model: model(4, 3, 160, 128),
    latentHeight: 8,
    latentWidth: 8,
    text: text(4, 4, [48, 80, 160], [48, 80]),
    globalBatch: 64,
    microBatch: 32,
    goal: { modes: ['eager'], factor: 1.6 },
  },
  {
    name: '256 + 77 tokens, batch 8, depth 6, hidden 384',
    model: model(6, 6, 4096, 2048),
    latentHeight: 32,
    latentWidth: 32,
    text: text(38, 39, [768, 1280, 4096], [768, 1280]),
    globalBatch: 8,
    microBatch: 4,
    goal: { modes: ['eager', 'compiled'], factor: 1.2 },
  },
];

function model(depth: number, heads: number, contextDim: number, pooledDim: number): ModelSpec {
  return {
    depth,
    heads,
    patch: 2,
    latentChannels: 16,
    contextDim,
    pooledDim,
    posEmbedMaxSize: 16,
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
