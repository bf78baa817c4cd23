/** Conditioning: what the model receives of a prompt. */
import type { TextSpec } from '../native/contract.js';

/** The conditioning of a batch of prompts. */
export interface Conditioning {
  count: number;
  /** [count, clipTokens + t5Tokens, contextDim] */
  context: Float32Array;
  /** [count, pooledDim] */
  pooled: Float32Array;
}

/**
 * Assembles encoder features as in the paper: CLIP-L and CLIP-G concatenated by channel and padded with zeros
 * to the context's width, then T5 along the sequence; the pooled vectors of both CLIPs concatenated.
 */
export function assemble(features: TextFeatures[], text: TextSpec, contextDim: number): Conditioning {
  const tokens = text.clipTokens + text.t5Tokens;
  const pooledDim = text.clipLPooledDim + text.clipGPooledDim;
  const context = new Float32Array(features.length * tokens * contextDim);
  const pooled = new Float32Array(features.length * pooledDim);
  features.forEach((f, sample) => {
    const row = (token: number) => (sample * tokens + token) * contextDim;
    copyTokens(context, f.clipL, text.clipTokens, text.clipLDim, row);
    copyTokens(context, f.clipG, text.clipTokens, text.clipGDim, (token) => row(token) + text.clipLDim);
    copyTokens(context, f.t5, text.t5Tokens, text.t5Dim, (token) => row(text.clipTokens + token));
    pooled.set(f.clipLPooled, sample * pooledDim);
    pooled.set(f.clipGPooled, sample * pooledDim + text.clipLPooledDim);
  });
  return { count: features.length, context, pooled };
}

function copyTokens(
  target: Float32Array,
  source: Float32Array,
  tokens: number,
  width: number,
  place: (token: number) => number,
): void {
  for (let token = 0; token < tokens; token++) {
    target.set(source.subarray(token * width, (token + 1) * width), place(token));
  }
}

/** The features of a caption from the three encoders, row-major. */
export interface TextFeatures {
  /** [clipTokens, clipLDim] */
  clipL: Float32Array;
  /** [clipLDim] */
  clipLPooled: Float32Array;
  /** [clipTokens, clipGDim] */
  clipG: Float32Array;
  /** [clipGDim] */
  clipGPooled: Float32Array;
  /** [t5Tokens, t5Dim] */
  t5: Float32Array;
}
