/** What the names in a file of weights say, whoever wrote it: wrappers, other parts, scales, other models. */

/** Parts other than the diffusion model that files contain. */
export const OTHER_PARTS: Readonly<Record<string, string>> = {
  'first_stage_model.': 'VAE',
  'vae.': 'VAE',
  'text_encoders.': 'text encoders',
  'cond_stage_model.': 'text encoders',
  'conditioner.': 'text encoders',
  'text_encoder.': 'text encoders',
  'text_encoder_2.': 'text encoders',
  'text_encoder_3.': 'text encoders',
  'model_ema.': 'EMA',
  'model_sampling.': 'schedule',
};

/** The prefix in OTHER_PARTS of a name; null for the diffusion model's. */
export function otherPart(name: string): string | null {
  return Object.keys(OTHER_PARTS).find((prefix) => name.startsWith(prefix)) ?? null;
}

/** Modules that torch.compile, DDP, FSDP and activation checkpointing put around others, at any depth. */
const WRAPPERS = /(?<=^|\.)(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\./g;
/** Names under which pipelines and trainers hold the diffusion model. */
const HOLDERS = /^(?:(?:model|diffusion_model|transformer)\.)+/;

/** A name without the prefixes of wrappers, of the official files too (OFFICIAL_PREFIX). */
export function unwrapped(name: string): string {
  return name.replace(WRAPPERS, '').replace(HOLDERS, '');
}

/** Tensors beside quantised weights: scales of weights, scales of inputs, marks of the quantisation. */
const WEIGHT_SCALE = /\.(?:scale_weight|weight_scale)$/;
const NOT_NEEDED = /(?:\.(?:scale_input|input_scale|comfy_quant)|(?:^|\.)scaled_fp8)$/;

/**
 * The weight that a tensor scales, by its name in the file; `of` is null for what inference in F8 alone needs.
 * Null for any other tensor.
 */
export function scaleOf(name: string): { of: string | null } | null {
  if (WEIGHT_SCALE.test(name)) return { of: name.replace(WEIGHT_SCALE, '.weight') };
  return NOT_NEEDED.test(name) ? { of: null } : null;
}

interface Kind {
  /** The file holds "a VAE". */
  what: string;
  hint: string | null;
  /** Whether the file is of this kind even if it holds the diffusion model's projection. */
  always?: true;
}

const PART = (of: string) => `Only the diffusion model (transformer) of ${of} can be used`;

/** By a tensor that only such a file has. The first match counts. */
const KINDS: readonly (Kind & { has: RegExp })[] = [
  {
    has: /[._]lora[._]|lora_(?:A|B|up|down)\b|^lora_(?:unet|transformer|te\d?)_|\.lokr_|\.hada_w/,
    what: 'a LoRA or another adapter: changes to a model, not a model',
    hint: 'Merge it into its base model first, for example with fuse_lora() and save_pretrained() of diffusers',
    always: true,
  },
  {
    has: /^(?:controlnet_blocks|control_model|control_net)\b/,
    what: 'a ControlNet',
    hint: PART('a pipeline'),
    always: true,
  },
  {
    has: /^(?:double_blocks\.0|single_transformer_blocks\.0)\./,
    what: 'a FLUX model, whose blocks are not those of the MM-DiT',
    hint: null,
  },
  { has: /(?:^|\.)(?:input_blocks|down_blocks)\.0\.(?:0|attentions)\./, what: 'a UNet', hint: null },
  {
    has: /^(?:encoder|decoder)\.(?:conv_in|down\.0|down_blocks\.0|up\.0)\./,
    what: 'an autoencoder (VAE)',
    hint: PART('a pipeline'),
  },
  {
    has: /^(?:text_model\.(?:encoder|embeddings)|encoder\.block\.0|shared\.weight|transformer\.resblocks)/,
    what: 'a text encoder',
    hint: PART('a pipeline'),
  },
  {
    has: /^(?:transformer_)?blocks\.0\.attn1?\./,
    what: 'another diffusion transformer, with one stream of tokens',
    hint: null,
  },
  { has: /^latents$/, what: 'latents, not weights', hint: null },
];

/** What else than an MM-DiT the names of a file say that it holds; null if they say nothing. */
export function kindOf(names: readonly string[]): Kind | null {
  const inner = names.map(unwrapped);
  return (
    KINDS.find(({ has }) => names.some((name) => has.test(name)) || inner.some((name) => has.test(name))) ??
    null
  );
}
