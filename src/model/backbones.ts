/**
 * What files call the tensors of each backbone. Names and shapes of the official layout come from the addon
 * (native/model/backbones.cc).
 */
import { OrchestratorError } from '../errors.js';
import type { ModelSpec } from '../native/contract.js';
import { native } from '../native/load.js';
import type { Assembly } from './assembly.js';
import { MMDIT } from './mmdit.js';
import { type NamedTensor, POS_EMBED } from './tensors.js';

/** The naming scheme of a file's tensors. */
export type Format = 'official' | 'diffusers';

/** diffusers' layout of a backbone. */
interface DiffusersLayout {
  /** The names of an official tensor: several if it is split. */
  namesOf(official: string): string[];
  /** The tensors of a file, as pieces of all official ones. */
  split(official: readonly NamedTensor[], spec: ModelSpec): Assembly[];
  /** The keys of config.json that describe a model. */
  config(spec: ModelSpec): Record<string, unknown>;
}

/** Names are official ones, without prefix. */
export interface Backbone {
  /** Files have the tensors in ascending order of this; equal ones stay in the order of the addon. */
  fileOrder(official: string): number;
  /** The tensor of a block that exists if queries and keys are normalised. */
  qkNorm(block: number): string;
  /** The tensor of a block that exists if it has a second attention; null where none can have one. */
  dualAttention: ((block: number) => string) | null;
  /** Null if diffusers has no such model. */
  diffusers: DiffusersLayout | null;
}

/** By the names of native/model/backbones.cc, which a configuration uses, too. */
export const BACKBONES: Readonly<Record<string, Backbone>> = { mmdit: MMDIT };

/** All tensors of a model's official file: `pos_embed`, and the parameters. Throws ERR_MODEL_SPEC. */
export function officialTensors(spec: ModelSpec): NamedTensor[] {
  const { posEmbed, tensors } = native().parameters(spec);
  const place = BACKBONES[spec.backbone]?.fileOrder ?? (() => 0);
  return [{ name: POS_EMBED, shape: posEmbed.shape }, ...tensors]
    .map(({ name, shape }) => ({ name, shape }))
    .sort((a, b) => place(a.name) - place(b.name));
}

/** All tensors of a model's file, as pieces of the official ones. Throws ERR_MODEL_SPEC. */
export function fileTensors(spec: ModelSpec, format: Format): Assembly[] {
  const official = officialTensors(spec);
  if (format === 'diffusers') return diffusersLayout(spec).split(official, spec);
  return official.map(({ name, shape }) => ({
    name,
    shape,
    pieces: [{ tensor: name, firstRow: 0, rows: shape[0]! }],
  }));
}

/** The layout of a model in diffusers' files. */
export function diffusersLayout({ backbone }: Pick<ModelSpec, 'backbone'>): DiffusersLayout {
  const layout = BACKBONES[backbone]?.diffusers;
  if (layout) return layout;
  throw new OrchestratorError('ERR_MODEL_TENSORS', `diffusers has no model with the backbone ${backbone}`);
}
