/**
 * The layout of diffusers' `SD3Transformer2DModel`: its names, separate tensors for q, k and v, and (scale,
 * shift) instead of the official (shift, scale) in the last modulation of each stream.
 */
import { OrchestratorError } from '../errors.js';
import { isMapping } from '../files/json.js';
import type { ModelSpec } from '../native/contract.js';
import type { Assembly } from './assembly.js';
import { expectedTensors, HEAD_DIM, hiddenOf, POS_EMBED } from './tensors.js';

const CLASS_NAME = 'SD3Transformer2DModel';

const EMBEDDERS: Record<string, string> = {
  'x_embedder.proj': 'pos_embed.proj',
  't_embedder.mlp.0': 'time_text_embed.timestep_embedder.linear_1',
  't_embedder.mlp.2': 'time_text_embed.timestep_embedder.linear_2',
  'y_embedder.mlp.0': 'time_text_embed.text_embedder.linear_1',
  'y_embedder.mlp.2': 'time_text_embed.text_embedder.linear_2',
  context_embedder: 'context_embedder',
  'final_layer.linear': 'proj_out',
  'final_layer.adaLN_modulation.1': 'norm_out.linear',
};

/** Names within a block; `qkv` is split into three projections. */
const BLOCK: Record<string, string[]> = {
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
  'context_block.attn.qkv': ['attn.add_q_proj', 'attn.add_k_proj', 'attn.add_v_proj'],
  'context_block.attn.ln_q': ['attn.norm_added_q'],
  'context_block.attn.ln_k': ['attn.norm_added_k'],
  'context_block.attn.proj': ['attn.to_add_out'],
  'context_block.mlp.fc1': ['ff_context.net.0.proj'],
  'context_block.mlp.fc2': ['ff_context.net.2'],
  'context_block.adaLN_modulation.1': ['norm1_context.linear'],
};

/** diffusers' names of an official tensor: several if it is split. */
function namesOf(official: string): string[] {
  if (official === POS_EMBED) return ['pos_embed.pos_embed'];
  const dot = official.lastIndexOf('.');
  const kind = official.slice(dot);
  const block = /^joint_blocks\.(\d+)\.(.*)$/.exec(official.slice(0, dot));
  if (block !== null) {
    const names = BLOCK[block[2]!];
    if (names !== undefined) return names.map((name) => `transformer_blocks.${block[1]}.${name}${kind}`);
  } else {
    const name = EMBEDDERS[official.slice(0, dot)];
    if (name !== undefined) return [name + kind];
  }
  throw new OrchestratorError('ERR_INTERNAL', `diffusers has no name for the tensor ${official}`);
}

/** diffusers' tensors of a model, as pieces of the official ones. */
export function diffusersTensors(spec: ModelSpec): Assembly[] {
  const last = `joint_blocks.${spec.depth - 1}.context_block.adaLN_modulation.1.`;
  return expectedTensors(spec).flatMap(({ name, shape }) => {
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

/** The keys of `config.json` that describe the model. */
export function diffusersConfig(spec: ModelSpec, sampleSize: number): Record<string, unknown> {
  return {
    _class_name: CLASS_NAME,
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
    sample_size: sampleSize,
  };
}

/** The meaning of keys that older files omit. */
const ABSENT: Record<string, unknown> = { dual_attention_layers: [], qk_norm: null, out_channels: null };

/**
 * Compares a folder's config.json with the model that its tensors describe.
 *
 * @throws OrchestratorError ERR_MODEL_TENSORS: lists each key that differs.
 */
export function checkConfig(value: unknown, spec: ModelSpec, path: string): void {
  if (!isMapping(value)) throw new OrchestratorError('ERR_MODEL_TENSORS', `${path}: expected a JSON object`);
  const lines: string[] = [];
  for (const [key, expected] of Object.entries(diffusersConfig(spec, 0))) {
    if (key === 'sample_size') continue;
    const seen = key in value ? value[key] : ABSENT[key];
    // Without out_channels, in_channels applies.
    if (key === 'out_channels' && seen === null) continue;
    const text = JSON.stringify(seen) ?? 'nothing';
    if (text !== JSON.stringify(expected)) {
      lines.push(`  ${key} is ${text.slice(0, 200)}; the tensors say ${JSON.stringify(expected)}`);
    }
  }
  if (lines.length === 0) return;
  const what = `the configuration does not match the tensors in the folder\n${lines.join('\n')}`;
  throw new OrchestratorError('ERR_MODEL_TENSORS', `${path}: ${what}`);
}
