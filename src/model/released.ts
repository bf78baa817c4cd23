/** The released models, by name. */
import type { ModelSpec } from '../native/contract.js';
import { sameModel } from './tensors.js';

const MEDIUM: ModelSpec = {
  backbone: 'mmdit',
  depth: 24,
  heads: 24,
  patch: 2,
  latentChannels: 16,
  contextDim: 4096,
  pooledDim: 2048,
  posEmbedMaxSize: 192,
  qkNorm: 'none',
  dualAttention: [],
};

export const RELEASED: Readonly<Record<string, ModelSpec>> = {
  'SD3-medium': MEDIUM,
  'SD3.5-medium': {
    ...MEDIUM,
    posEmbedMaxSize: 384,
    qkNorm: 'rms',
    dualAttention: Array.from({ length: 13 }, (_, block) => block),
  },
  'SD3.5-large': { ...MEDIUM, depth: 38, heads: 38, qkNorm: 'rms' },
};

/** "SD3.5-large", or null for a model that is not one of the released ones. */
export function releasedName(spec: ModelSpec): string | null {
  return Object.keys(RELEASED).find((name) => sameModel(RELEASED[name]!, spec)) ?? null;
}
