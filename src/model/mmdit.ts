/**
 * The MM-DiT's names, and the layout of diffusers' `SD3Transformer2DModel`: separate tensors for q, k and v,
 * and (scale, shift) instead of the official (shift, scale) in the last modulation of each stream.
 */
import { OrchestratorError } from '../errors.js';
import type { ModelSpec } from '../native/contract.js';
import { HEAD_DIM, hiddenOf } from '../native/specs.js';
import type { Assembly } from './assembly.js';
import type { Backbone } from './backbones.js';
import { type NamedTensor, POS_EMBED } from './tensors.js';

/** Names outside of the blocks, in the order of official files. */
const OUTSIDE: Record<string, string[]> = {
  'x_embedder.proj': ['pos_embed.proj'],
  't_embedder.mlp.0': ['time_text_embed.timestep_embedder.linear_1'],
  't_embedder.mlp.2': ['time_text_embed.timestep_embedder.linear_2'],
  'y_embedder.mlp.0': ['time_text_embed.text_embedder.linear_1'],
  'y_embedder.mlp.2': ['time_text_embed.text_embedder.linear_2'],
  context_embedder: ['context_embedder'],
  'final_layer.linear': ['proj_out'],
  'final_layer.adaLN_modulation.1': ['norm_out.linear'],
};

/** Names within a block, in the order of official files; `qkv` is split into three projections. */
const BLOCK: Record<string, string[]> = {
  'context_block.attn.qkv': ['attn.add_q_proj', 'attn.add_k_proj', 'attn.add_v_proj'],
  'context_block.attn.ln_q': ['attn.norm_added_q'],
  'context_block.attn.ln_k': ['attn.norm_added_k'],
  'context_block.attn.proj': ['attn.to_add_out'],
  'context_block.mlp.fc1': ['ff_context.net.0.proj'],
  'context_block.mlp.fc2': ['ff_context.net.2'],
  'context_block.adaLN_modulation.1': ['norm1_context.linear'],
  'x_block.attn.qkv': ['attn.to_q', 'attn.to_k', 'attn.to_v'],
  'x_block.attn.ln_q': ['attn.norm_q'],
  'x_block.attn.ln_k': ['attn.norm_k'],
  'x_block.attn.proj': ['attn.to_out.0'],
  'x_block.attn2.qkv': ['attn2.to_q', 'attn2.to_k', 'attn2.to_v'],
  'x_block.attn2.ln_q': ['attn2.norm_q'],
  'x_block.attn2.ln_k': ['attn2.norm_k'],
  'x_block.attn2.proj': ['attn2.to_out.0'],
  'x_block.mlp.fc1': ['ff.net.0.proj'],
  'x_block.mlp.fc2': ['ff.net.2'],
  'x_block.adaLN_modulation.1': ['norm1.linear'],
};

/** "joint_blocks.3.x_block.mlp.fc1.weight" is "x_block.mlp.fc1" of block 3, and there ".weight". */
function parse(official: string): { block: number | null; module: string; kind: string } {
  const [, block = null, module, kind] = /^(?:joint_blocks\.(\d+)\.)?(.*)(\.[^.]+)$/.exec(official)!;
  return { block: block === null ? null : Number(block), module: module!, kind: kind! };
}

/** Position table and embedders, the blocks, the final layer; within them as in the tables above. */
function fileOrder(official: string): number {
  if (official === POS_EMBED) return -1;
  const { block, module } = parse(official);
  const table = Object.keys(block === null ? OUTSIDE : BLOCK);
  // A block has fewer than 100 modules, and a model at most 1024 blocks.
  const part = block !== null ? block + 1 : module.startsWith('final_layer') ? 1025 : 0;
  return 100 * part + table.indexOf(module);
}

function namesOf(official: string): string[] {
  if (official === POS_EMBED) return ['pos_embed.pos_embed'];
  const { block, module, kind } = parse(official);
  const names = (block === null ? OUTSIDE : BLOCK)[module];
  if (names === undefined) {
    throw new OrchestratorError('ERR_INTERNAL', `diffusers has no name for the tensor ${official}`);
  }
  return names.map((name) => `${block === null ? '' : `transformer_blocks.${block}.`}${name}${kind}`);
}

function split(official: readonly NamedTensor[], { depth }: ModelSpec): Assembly[] {
  const last = `joint_blocks.${depth - 1}.context_block.adaLN_modulation.1.`;
  return official.flatMap(({ name, shape }) => {
    const names = namesOf(name);
    const [all = 0, ...rest] = shape;
    const rows = all / names.length;
    const piece = (firstRow: number, count: number) => ({ tensor: name, firstRow, rows: count });
    if (name.startsWith('final_layer.adaLN_modulation.1.') || name.startsWith(last)) {
      const half = all / 2;
      return [{ name: names[0]!, shape, pieces: [piece(half, half), piece(0, half)] }];
    }
    return names.map((part, i) => ({ name: part, shape: [rows, ...rest], pieces: [piece(i * rows, rows)] }));
  });
}

function config(spec: ModelSpec): Record<string, unknown> {
  return {
    _class_name: 'SD3Transformer2DModel',
    attention_head_dim: HEAD_DIM,
    caption_projection_dim: hiddenOf(spec),
    dual_attention_layers: spec.dualAttention,
    in_channels: spec.latentChannels,
    joint_attention_dim: spec.contextDim,
    num_attention_heads: spec.heads,
    num_layers: spec.depth,
    out_channels: spec.latentChannels,
    patch_size: spec.patch,
    pooled_projection_dim: spec.pooledDim,
    pos_embed_max_size: spec.posEmbedMaxSize,
    qk_norm: spec.qkNorm === 'rms' ? 'rms_norm' : null,
  };
}

export const MMDIT: Backbone = {
  fileOrder,
  qkNorm: (block) => `joint_blocks.${block}.context_block.attn.ln_k.weight`,
  dualAttention: (block) => `joint_blocks.${block}.x_block.attn2.qkv.weight`,
  diffusers: { namesOf, split, config },
};
