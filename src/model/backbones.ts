/**
 * What files call the tensors of each backbone. Names and shapes of the official layout come from the addon
 * (native/model/backbones.cc).
 */
import { OrchestratorError } from '../errors.js';
import type { ModelSpec } from '../native/contract.js';
import type { Assembly } from './assembly.js';
import { MMDIT } from './mmdit.js';

/** diffusers' layout of a backbone. */
export interface DiffusersLayout {
  /** The names of an official tensor: several if it is split. */
  namesOf(official: string): string[];
  /** All tensors of a model, as pieces of the official ones. */
  tensors(spec: ModelSpec): Assembly[];
  /** The keys of config.json that describe a model. */
  config(spec: ModelSpec): Record<string, unknown>;
}

/** Names are official ones, without prefix. */
export interface Backbone {
  /** The tensor of a block that exists if queries and keys are normalised. */
  qkNorm(block: number): string;
  /** The tensor of a block that exists if it has a second attention; null where none can have one. */
  dualAttention: ((block: number) => string) | null;
  /** Null if diffusers has no such model. */
  diffusers: DiffusersLayout | null;
}

/** By the names of native/model/backbones.cc, which a configuration uses, too. */
export const BACKBONES: Readonly<Record<string, Backbone>> = { mmdit: MMDIT };

/**
 * The layout of a model in diffusers' files.
 *
 * @throws OrchestratorError ERR_MODEL_TENSORS: there is none.
 */
export function diffusersLayout({ backbone }: Pick<ModelSpec, 'backbone'>): DiffusersLayout {
  const layout = BACKBONES[backbone]?.diffusers;
  if (layout) return layout;
  throw new OrchestratorError('ERR_MODEL_TENSORS', `diffusers has no model with the backbone ${backbone}`);
}
