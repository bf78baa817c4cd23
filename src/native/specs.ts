/**
 * Models, texts and optimizers as they cross the boundary and as they are stored: one schema for the
 * contract's types and for files.
 */
import { z } from 'zod';

const count = () => z.int().min(0);
const positive = () => z.int().min(1);

/** Channels of an attention head, in every model. */
export const HEAD_DIM = 64;

export const modelSpecSchema = z.strictObject({
  /** A name of native/model/backbones.cc. Files written before there were names hold an MM-DiT. */
  backbone: z.string().default('mmdit'),
  depth: positive(),
  heads: positive(),
  patch: positive(),
  latentChannels: positive(),
  contextDim: positive(),
  pooledDim: positive(),
  /** Side of the stored position grid, in patches. */
  posEmbedMaxSize: positive(),
  qkNorm: z.enum(['none', 'rms']),
  /** Indices of blocks with a second, image-only attention. */
  dualAttention: z.array(count()),
});

export type ModelSpec = z.output<typeof modelSpecSchema>;

/** The optimizers of native/optim/optimizers.h, as people call them, by the names that the addon knows. */
export const OPTIMIZERS = { adamw: 'AdamW' } as const;

export type OptimizerName = keyof typeof OPTIMIZERS;

/** Width of a model's token streams. */
export function hiddenOf({ heads }: Pick<ModelSpec, 'heads'>): number {
  return heads * HEAD_DIM;
}

export const textSpecSchema = z.strictObject({
  /**
   * Tokens of CLIP-L and of CLIP-G (both have the same number), and of T5; their sum is the context length M.
   */
  clipTokens: positive(),
  t5Tokens: positive(),
  clipLDim: positive(),
  clipGDim: positive(),
  t5Dim: positive(),
  clipLPooledDim: positive(),
  clipGPooledDim: positive(),
});

export type TextSpec = z.output<typeof textSpecSchema>;

/** Context tokens M of a sample: those of CLIP, then those of T5. */
export function contextTokens({ clipTokens, t5Tokens }: TextSpec): number {
  return clipTokens + t5Tokens;
}
