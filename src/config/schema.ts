/**
 * The configuration of a run: every key with its type, range, default and description. `configs/schema.json`,
 * `docs/reference/config.md`, the expectations in errors and `type Config` are all derived from it.
 */
import { z } from 'zod';
import { BACKBONES } from '../model/backbones.js';
import { HEAD_DIM, OPTIMIZERS, type OptimizerName } from '../native/specs.js';
import { canonicalName, FORMULATION_FORMS, FORMULATION_PATTERN } from '../objective/names.js';

const integer = (low: number, high = Number.MAX_SAFE_INTEGER) => z.int().min(low).max(high);
const fraction = () => z.number().min(0).max(1);
const text = () => z.string().min(1);
const positive = () => z.number().positive();
const belowOne = () => z.number().min(0).lt(1);
const choice = <T extends string>(values: readonly T[], chosen: z.core.util.NoUndefined<T>) =>
  z.enum(values).default(chosen);
const optional = <T extends z.ZodType>(schema: T) => schema.nullable().default(null);

/** The columns of a caption, in the order of their use: one for each feature, or joined. */
export const TEXT_COLUMNS = ['clip_l', 'clip_l_pooled', 'clip_g', 'clip_g_pooled', 't5'] as const;
export const JOINED_COLUMNS = ['context', 'pooled'] as const;

const captionColumns = z.strictObject({
  clip_l: optional(text()).describe('Column of the CLIP-L token features, [tokens, width].'),
  clip_l_pooled: optional(text()).describe('Column of the pooled CLIP-L vector.'),
  clip_g: optional(text()).describe('Column of the CLIP-G token features, [tokens, width].'),
  clip_g_pooled: optional(text()).describe('Column of the pooled CLIP-G vector.'),
  t5: optional(text()).describe('Column of the T5 token features, [tokens, width].'),
  context: optional(text()).describe(
    "Column of all token features, in place of clip_l, clip_g and t5: CLIP-L and CLIP-G side by side, padded with zeros to T5's width, then T5's tokens. These are diffusers' prompt embeddings, [154 or 333, 4096].",
  ),
  pooled: optional(text()).describe(
    'Column of both pooled vectors, CLIP-L first, in place of clip_l_pooled and clip_g_pooled.',
  ),
});

const tokensAndWidth = () => z.tuple([integer(1), integer(1)]);

const data = z.strictObject({
  path: text().describe(
    'Folder of the data set, written by `orchestrator dataset` (with a manifest.json) or by Hugging Face `save_to_disk`. Relative to the working directory; `~` is your home folder.',
  ),
  columns: optional(
    z.strictObject({
      id: optional(text()).describe('Column of the sample identity, for reports; null = row number.'),
      latent: text().describe('Column of the latents.'),
      latent_logvar: optional(text()).describe(
        'Column of the log-variances, if data.latent_form is mean_logvar and the means have a column of their own.',
      ),
      original: captionColumns.describe('Columns of the original caption.'),
      synthetic: optional(captionColumns).describe('Columns of the synthetic caption; null = there is none.'),
    }),
  ).describe('Role of each column, for Hugging Face folders; null for folders with a manifest.json.'),
  latent_shape: optional(z.tuple([integer(1), integer(1), integer(1)])).describe(
    '[channels, height, width] of a latent, if the columns are flat; null = from the data set.',
  ),
  latent_form: choice(['value', 'mean_logvar'], 'value').describe(
    "What the column of latents holds: value = latents; mean_logvar = the mean and the log-variance of the autoencoder's posterior, in one column of 2 x channels or in two. A latent is then drawn from it again whenever a row is used.",
  ),
  latent_shift: z.number().default(0).describe('Subtracted from every latent, before it is scaled.'),
  latent_scale: positive()
    .default(1)
    .describe('Factor of every latent: the model sees (latent - latent_shift) * latent_scale.'),
  bfloat16: z
    .array(text())
    .default([])
    .describe(
      'Columns whose 16-bit integers or bytes are the bits of bfloat16, which Arrow has no type for.',
    ),
  on_non_finite: choice(['fail', 'skip'], 'fail').describe(
    'What a stored NaN or infinity does: fail = the first step that uses it ends the run; skip = its row has the weight 0 whenever it is drawn.',
  ),
  text_shape: optional(
    z.strictObject({
      clip_l: tokensAndWidth().describe('[tokens, width] of CLIP-L.'),
      clip_g: tokensAndWidth().describe('[tokens, width] of CLIP-G; as many tokens as CLIP-L.'),
      t5: tokensAndWidth().describe('[tokens, width] of T5.'),
    }),
  ).describe('Shapes of the token features, if the columns are flat; null = from the data set.'),
  validation_rows: integer(0).default(256).describe('Rows held out for the validation loss; 0 = none.'),
  synthetic_captions: fraction()
    .default(0.5)
    .describe('Probability that a sample is conditioned on its synthetic caption.'),
  drop: z
    .strictObject({
      clip_l: fraction().default(0.463).describe('Probability of dropping CLIP-L.'),
      clip_g: fraction().default(0.463).describe('Probability of dropping CLIP-G.'),
      t5: fraction().default(0.463).describe('Probability of dropping T5.'),
    })
    .prefault({})
    .describe(
      "Probability that each encoder's features, including the pooled ones, are set to zero for a sample.",
    ),
});

const model = z.strictObject({
  backbone: choice(Object.keys(BACKBONES), 'mmdit').describe(
    'Architecture: mmdit = the MM-DiT of SD3 and SD3.5.',
  ),
  depth: integer(1, 1024).default(4).describe('Number of MM-DiT blocks.'),
  hidden: integer(HEAD_DIM, 1024 * HEAD_DIM)
    .multipleOf(HEAD_DIM)
    .default(192)
    .describe(`Width of both streams; hidden / ${HEAD_DIM} attention heads.`),
  patch: integer(1, 64).default(2).describe('Side of a patch, in latent pixels.'),
  latent_channels: optional(integer(1, 1024)).describe('Channels of the latents; null = from the data set.'),
  context_dim: optional(integer(1)).describe(
    "Width of the context tokens; null = from the data set (T5's width).",
  ),
  pooled_dim: optional(integer(1)).describe(
    'Width of the pooled text vector; null = from the data set (CLIP-L and CLIP-G together).',
  ),
  pos_embed_max_size: optional(integer(1, 4096)).describe(
    'Side of the stored position grid, in patches; smaller latents use its centre; null = 16, or as many as the latents of the data set need.',
  ),
  qk_norm: choice(['none', 'rms'], 'rms').describe('Normalisation of queries and keys.'),
  dual_attention: z
    .array(integer(0))
    .default([])
    .describe('Indices of blocks with a second, image-only attention.'),
});

const objective = z.strictObject({
  formulation: z
    .string()
    .regex(FORMULATION_PATTERN)
    .overwrite(canonicalName)
    .default('rf/lognorm(0,1)')
    .meta({
      title: FORMULATION_FORMS,
      description: `Path, target, weighting and density of t, by the name of the SD3 paper: ${FORMULATION_FORMS}. \`orchestrator objective show NAME\` prints what a name means.`,
    }),
  shift: positive()
    .default(1)
    .describe(
      'Resolution shift alpha: sigma (noise / data) becomes alpha sigma, for rf t_m = alpha t / (1 + (alpha - 1) t); 1 = none.',
    ),
});

const batch = z.strictObject({
  global: integer(1).default(64).describe('Samples in a step; a multiple of batch.micro x batch.accumulate.'),
  micro: integer(1).default(32).describe('Micro-batch: samples that are computed together.'),
  accumulate: integer(1)
    .default(1)
    .describe(
      'Gradient accumulation: micro-batches of a slot, computed one after another into one gradient; a step has global / (micro x accumulate) slots, which the workers share. Fixed within a run.',
    ),
});

const OPTIMIZER_NAMES = Object.keys(OPTIMIZERS) as OptimizerName[];

const optimizer = z.strictObject({
  name: choice(OPTIMIZER_NAMES, 'adamw').describe(
    `Rule of the update: ${OPTIMIZER_NAMES.map((name) => `${name} = ${OPTIMIZERS[name]}`).join(', ')}.`,
  ),
  lr: z.number().min(0).default(1e-3).describe('Peak learning rate.'),
  betas: z
    .tuple([belowOne(), belowOne()])
    .default([0.9, 0.999])
    .describe('Decay of the first and the second moment.'),
  eps: positive().default(1e-8).describe('Added to the square root of the second moment.'),
  weight_decay: z.number().min(0).default(0.01).describe('Decoupled weight decay.'),
  clip_norm: positive().default(1).describe('Global L2 norm to which larger gradients are clipped.'),
});

const schedule = z.strictObject({
  steps: integer(1).default(1000).describe('Optimizer steps of the run.'),
  warmup: integer(0).default(50).describe('Steps of linear warm-up from 0.'),
  decay: choice(['constant', 'cosine'], 'cosine').describe('Learning rate after the warm-up.'),
  final: fraction().default(0.1).describe('Learning rate at the end of a cosine, as a fraction of the peak.'),
});

const ema = z.strictObject({
  decay: belowOne()
    .default(0.999)
    .describe('Fraction of the old average that each update keeps (the paper: 0.99 every 100 steps).'),
  every: integer(1).default(1).describe('Steps between two updates of the average.'),
  warmup: z
    .boolean()
    .default(true)
    .describe(
      'Whether update n keeps only min(decay, (1 + n) / (10 + n)), so that the average soon forgets the starting weights; false as in the paper. A run of a version without this key goes on without.',
    ),
});

const precision = z.strictObject({
  compute: choice(['auto', 'fp32', 'bf16'], 'auto').describe(
    'Precision of matmuls; auto = bf16 if the processor or GPU has fast bf16, otherwise fp32.',
  ),
  residual: choice(['fp32', 'bf16'], 'bf16').describe('Storage of the residual stream if compute is bf16.'),
  linear: choice(['compute', 'fp8'], 'compute').describe(
    'Operands of the linear layers qkv, proj, fc1 and fc2 of the blocks; compute = as all others; fp8 = E4M3, output gradients in E5M2, with a scale per tensor (GPUs from compute capability 8.9 on, and compute bf16).',
  ),
});

const validation = z.strictObject({
  every: integer(0).default(200).describe('Steps between two validations; 0 = never.'),
  bins: integer(1, 1000)
    .default(8)
    .describe(
      'The loss is measured at t = (i + 0.5) / bins, for each i; the error of the estimated noise also at eight fixed log-SNRs.',
    ),
  weights: optional(z.array(z.enum(['ema', 'master'])).min(1)).describe(
    'Which weights are validated; null = [ema, master], or [master] if ema is null. Each costs validation_rows x (bins + 8) forward passes.',
  ),
});

const telemetry = z.strictObject({
  log_every: optional(integer(1)).describe(
    'Steps between two lines of steps in the plain log and in run.log, and between two records of the numbers of each worker, attention and block in metrics.jsonl; null = every step of a run of up to 10,000 steps; of a longer one the first 100, and then about 10,000.',
  ),
  attention_every: integer(0)
    .default(10)
    .describe('Steps between two reports of the attention logits and entropy; 0 = never.'),
  metrics_port: integer(0, 65535)
    .nullable()
    .default(9464)
    .describe(
      'Port of /metrics, /healthz and /readyz on the coordinator, or the next free one; 0 = any, null = off.',
    ),
  metrics_host: text().default('127.0.0.1').describe('Address that the metrics port listens on.'),
  metrics_token_file: optional(text()).describe(
    'File with the bearer token that a request for /metrics must have; relative to the working directory; null = none is needed.',
  ),
  tensorboard: z
    .boolean()
    .default(true)
    .describe("Whether the run folder has the numbers of metrics.jsonl as TensorBoard's event files, too."),
});

const checkpoint = z.strictObject({
  every: integer(0)
    .default(200)
    .describe('Steps between two checkpoints; 0 = only when the run ends or is stopped.'),
  keep: integer(1)
    .default(3)
    .describe('Number of checkpoints to keep; an old one is removed only after a newer one was verified.'),
  keep_every: integer(0)
    .default(0)
    .describe(
      'Checkpoints of steps that are multiples of this are never removed, whatever `keep` says; 0 = none. A multiple of `every`.',
    ),
  keep_best: z
    .boolean()
    .default(false)
    .describe(
      'Whether the checkpoint of the step with the lowest validation loss of the EMA is never removed, until another step has a lower one.',
    ),
});

export const configSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/)
    .meta({
      title: 'a name of letters, digits, ".", "_" and "-"',
      description: 'Name of the run; its folder is runs/NAME unless --run-dir says otherwise.',
    }),
  seed: integer(0).default(0).describe('Determines all random numbers.'),
  device: choice(['cpu', 'cuda'], 'cpu').describe(
    'Device on which workers compute; cuda = each on the NVIDIA GPU of its local rank (modulo the number of GPUs that it sees).',
  ),
  data: data.describe('What to train on.'),
  model: model
    .prefault({})
    .describe(
      'The MM-DiT. A run that starts from `init` takes keys that are not set here from those weights.',
    ),
  objective: objective.prefault({}).describe('What is learned.'),
  batch: batch.prefault({}).describe('Samples in a step and in a slot.'),
  optimizer: optimizer.prefault({}).describe('The update of the weights.'),
  schedule: schedule.prefault({}).describe('Length of the run and learning rate.'),
  ema: ema.nullable().prefault({}).describe('Exponential moving average of the weights; null = none.'),
  precision: precision.prefault({}).describe('Number formats.'),
  activation_checkpointing: choice(['nothing', 'norms', 'mlp', 'block'], 'nothing').describe(
    'What the backward pass recomputes instead of keeping: nothing; norms (normed inputs and GELUs); mlp (also the first MLP layer); block (everything except the inputs of the blocks). Changes memory and time, but no bit of the result (except norms on GPUs that compute GELU within its matmul).',
  ),
  threads: optional(integer(1, 4096)).describe(
    'Compute threads of a worker; null = processors / workers of the machine, within the quota of its control group (cgroup).',
  ),
  threads_per_slot: optional(integer(1, 4096)).describe(
    'Threads of a worker that share a slot; null = one, or more if a worker has more threads than slots. Changes no bit of the result. Only on the CPU.',
  ),
  exchange: choice(['auto', 'shared', 'nccl', 'grpc'], 'auto').describe(
    'How workers sum their gradients (all-reduce): shared = in memory that all workers map (only on one machine and on the CPU; workers hold one copy of the weights and share the update); nccl = from GPU to GPU (each worker needs its own); grpc = over the network; auto = shared or nccl where possible, otherwise grpc. Changes time and memory, but no bit of the result.',
  ),
  init: optional(text()).describe(
    "Weights to start from: a safetensors file, *.safetensors.index.json, diffusers' folder, or a checkpoint's or run's folder (the master weights of the latest checkpoint); relative to the working directory, and `~` is your home folder; null = initialise from the seed. The weights may lack QK-norm and have a smaller position grid.",
  ),
  freeze: z
    .array(text())
    .default([])
    .describe(
      'Patterns of official names of parameters to freeze (`*` = any characters): no update, no weight decay, and not part of the gradient norm.',
    ),
  validation: validation.prefault({}).describe('The loss on held-out rows.'),
  telemetry: telemetry.prefault({}).describe('What is measured, and the metrics port.'),
  checkpoint: checkpoint.prefault({}).describe('When checkpoints are written, and how many are kept.'),
});

/** A validated configuration with every default filled in. */
export type Config = z.output<typeof configSchema>;

/** Number of samples in a slot: those of its micro-batches. */
export function slotSamples({ batch }: Pick<Config, 'batch'>): number {
  return batch.micro * batch.accumulate;
}

/** Number of slots in a step. */
export function slotCount(config: Pick<Config, 'batch'>): number {
  return config.batch.global / slotSamples(config);
}
