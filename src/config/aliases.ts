/**
 * Names and values that other trainers use, with ours. They are told in errors; nothing is renamed silently,
 * because the meanings differ.
 */
import { FORMULATION_PATTERN, nameWithDensity } from '../objective/names.js';

interface Alias {
  /** A key of the configuration, or an option of `orchestrator launch`. */
  ours: string;
  /** How it differs from what the names mean elsewhere; empty if it does not. */
  differs: string;
  names: readonly string[];
}

const alias = (ours: string, names: string, differs = ''): Alias => ({
  ours,
  differs,
  names: names.split(' '),
});

const GLOBAL = 'the samples of a whole step, on all workers; batch.micro are those computed together';
const MICRO = 'the samples computed together; batch.global are those of a whole step, on all workers';

export const ALIASES: readonly Alias[] = [
  alias('name', 'run_name exp_name experiment_name project_name job_name'),
  alias('seed', 'random_seed manual_seed global_seed'),
  alias(
    'device',
    'gpu gpus use_gpu use_cuda accelerator cuda',
    'cpu or cuda; --nproc-per-node sets the number of workers',
  ),
  alias('--nproc-per-node', 'num_gpus n_gpus num_processes nproc nproc_per_node world_size devices'),
  alias(
    '--nodes',
    'nnodes num_nodes n_nodes num_machines',
    'groups of processes on this machine; other hosts are named by --hosts',
  ),
  alias(
    '--hosts',
    'master_addr master_port rdzv_endpoint rdzv_backend rdzv_id node_rank machine_rank main_process_ip main_process_port',
    'on one machine, which starts the workers of all and connects them; --listen is for hosts without ssh',
  ),
  alias('--run-dir', 'output_dir out_dir logging_dir log_dir save_dir ckpt_dir checkpoint_dir results_dir'),
  alias(
    '--resume',
    'resume resume_from resume_from_checkpoint load_checkpoint',
    'auto, the default, never or a path',
  ),
  alias(
    'data.path',
    'dataset dataset_name dataset_path data_dir data_path train_data_dir train_data instance_data_dir',
  ),
  alias(
    'data.latent_shape',
    'resolution image_size img_size',
    'the shape of the latents, which the data set has',
  ),
  alias(
    'data.drop',
    'proportion_empty_prompts cfg_dropout caption_dropout caption_dropout_rate class_dropout_prob uncond_prob',
    'a probability for each text encoder',
  ),
  alias('model.depth', 'num_layers n_layers num_blocks'),
  alias('model.hidden', 'hidden_size hidden_dim d_model embed_dim dim'),
  alias('model.hidden', 'num_heads n_heads num_attention_heads', '64 x the number of heads'),
  alias('model.patch', 'patch_size'),
  alias('model.latent_channels', 'in_channels out_channels'),
  alias('model.context_dim', 'joint_attention_dim cross_attention_dim'),
  alias('model.pooled_dim', 'pooled_projection_dim'),
  alias('model.dual_attention', 'dual_attention_layers'),
  alias(
    'objective.formulation',
    'weighting_scheme timestep_sampling logit_mean logit_std mode_scale',
    'the density of t is part of the name: rf/lognorm(m,s), rf/mode(s), rf/cosmap',
  ),
  alias(
    'objective.formulation',
    'prediction_type parameterization',
    'the path is part of the name: eps/linear',
  ),
  alias('objective.shift', 'flow_shift timestep_shift discrete_flow_shift'),
  alias(
    'batch.global',
    'batch_size batchsize global_batch_size total_batch_size effective_batch_size',
    GLOBAL,
  ),
  alias(
    'batch.micro',
    'train_batch_size per_device_train_batch_size per_gpu_batch_size micro_batch_size local_batch_size',
    MICRO,
  ),
  alias(
    'batch.accumulate',
    'gradient_accumulation gradient_accumulation_steps grad_accum grad_accum_steps grad_acc_steps accumulation_steps accumulate_grad_batches',
    'micro-batches of a slot; batch.global is their number x batch.micro x the slots that the workers share',
  ),
  alias('optimizer.name', 'optim optimizer_type optimizer_name'),
  alias('optimizer.lr', 'learning_rate base_lr base_learning_rate max_lr peak_lr'),
  alias('optimizer.betas', 'beta1 beta2 adam_beta1 adam_beta2 adam_betas', 'a list of both'),
  alias('optimizer.eps', 'epsilon adam_epsilon adam_eps'),
  alias('optimizer.weight_decay', 'wd adam_weight_decay'),
  alias(
    'optimizer.clip_norm',
    'max_grad_norm max_norm grad_clip clip_grad clip_grad_norm grad_norm_clip gradient_clipping gradient_clip_val',
  ),
  alias(
    'schedule.steps',
    'max_steps num_steps total_steps train_steps num_train_steps max_train_steps num_training_steps max_iters train_iters',
    'optimizer steps',
  ),
  alias(
    'schedule.steps',
    'epochs max_epochs num_epochs num_train_epochs',
    'steps, not epochs; an epoch takes (rows - data.validation_rows) / batch.global of them',
  ),
  alias('schedule.warmup', 'warmup_steps lr_warmup_steps num_warmup_steps warmup_iters', 'optimizer steps'),
  alias('schedule.warmup', 'warmup_ratio warmup_fraction', 'steps, not a fraction of the run'),
  alias('schedule.decay', 'lr_scheduler lr_scheduler_type lr_schedule scheduler', 'constant or cosine'),
  alias('schedule.final', 'min_lr lr_min lr_end', 'a fraction of optimizer.lr'),
  alias('ema', 'use_ema', 'it is on; ema: null switches it off'),
  alias('ema.decay', 'ema_decay ema_rate ema_max_decay ema_beta'),
  alias('ema.every', 'ema_update_every ema_update_interval ema_interval'),
  alias('ema.warmup', 'ema_warmup use_ema_warmup', 'true or false'),
  alias(
    'precision.compute',
    'mixed_precision dtype torch_dtype weight_dtype amp fp16 bf16 use_bf16',
    'auto, fp32 or bf16; there is no fp16',
  ),
  alias('precision.linear', 'fp8 use_fp8 enable_fp8 fp8_training float8', 'compute or fp8'),
  alias(
    'activation_checkpointing',
    'gradient_checkpointing use_gradient_checkpointing grad_checkpointing activation_checkpoint remat',
    'nothing, norms, mlp or block',
  ),
  alias(
    'threads',
    'num_workers dataloader_num_workers num_threads omp_num_threads',
    "a worker's compute threads; the data are mapped into memory and need no workers of their own",
  ),
  alias(
    'init',
    'pretrained pretrained_model pretrained_model_name_or_path model_name_or_path model_path load_from init_from',
    'a path on this machine',
  ),
  alias(
    'freeze',
    'trainable_modules frozen_modules freeze_layers',
    'patterns of the parameters that are not trained',
  ),
  alias(
    'validation.every',
    'validation_steps eval_steps eval_every eval_interval val_every val_interval val_check_interval',
    'optimizer steps',
  ),
  alias(
    'checkpoint.every',
    'checkpointing_steps checkpoint_every checkpoint_steps save_steps save_every save_interval ckpt_every',
    'optimizer steps',
  ),
  alias('checkpoint.keep', 'checkpoints_total_limit save_total_limit keep_last max_checkpoints'),
  alias(
    'telemetry.tensorboard',
    'report_to log_with enable_tensorboard use_tensorboard create_tensorboard_logger tensorboard',
    'true or false; numbers are also in metrics.jsonl, and at telemetry.metrics_port for Prometheus',
  ),
];

/** Our values for those of other trainers, by key; texts of YAML in lower case. */
export const VALUE_ALIASES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  device: { gpu: 'cuda', 'cuda:0': 'cuda', nvidia: 'cuda' },
  'objective.formulation': {
    ...{ flow: 'rf', flow_matching: 'rf', 'flow-matching': 'rf', rectified_flow: 'rf' },
    ...{ epsilon: 'eps/linear', v_prediction: 'v/linear' },
  },
  'optimizer.name': { adam: 'adamw', adamw_torch: 'adamw', adamw_8bit: 'adamw' },
  'schedule.decay': { none: 'constant', constant_with_warmup: 'constant', cosine_with_warmup: 'cosine' },
  'precision.compute': {
    ...{ bfloat16: 'bf16', fp16: 'bf16', float16: 'bf16', half: 'bf16', mixed: 'auto' },
    ...{ float32: 'fp32', single: 'fp32', full: 'fp32', '32': 'fp32', no: 'fp32', none: 'fp32' },
  },
  'precision.linear': { float8: 'fp8', hybrid: 'fp8', bf16: 'compute', auto: 'compute' },
  'precision.residual': { bfloat16: 'bf16', float32: 'fp32' },
  activation_checkpointing: { true: 'block', full: 'block', false: 'nothing', none: 'nothing' },
  'model.qk_norm': { rms_norm: 'rms', rmsnorm: 'rms', true: 'rms', false: 'none' },
  exchange: { gloo: 'grpc', mpi: 'grpc' },
};

/** What to write instead of keys of earlier versions, from their values. */
export const REMOVED: Readonly<Record<string, (value: unknown) => string>> = {
  'objective.density': (value) => {
    const name = nameWithDensity(String(value));
    const line = FORMULATION_PATTERN.test(name)
      ? `: formulation: "${name}"`
      : ', for example: formulation: "rf/lognorm(0,1)"';
    return `the density is part of objective.formulation; write instead of both${line}`;
  },
};

/** "here it is optimizer.lr", with how it differs; null for a name that is none of another trainer's. */
export function aliasOf(key: string): string | null {
  const name = key.toLowerCase().replaceAll('-', '_');
  const found = ALIASES.find(({ names }) => names.includes(name));
  if (found === undefined) return null;
  const { ours, differs } = found;
  const what = ours.startsWith('--') ? `the option ${ours} of \`orchestrator launch\`` : ours;
  return `here it is ${what}${differs === '' ? '' : ` (${differs})`}`;
}
