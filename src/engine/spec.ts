/** The engine for a configuration and a data set. */
import { type Config, slotCount } from '../config/schema.js';
import type { OpenDataset } from '../data/dataset.js';
import { OrchestratorError } from '../errors.js';
import type { EngineSpec, HostInfo, ModelSpec, TextSpec } from '../native/contract.js';
import { GPU, type ResolvedPrecision, resolvePrecision } from './precision.js';

export type DatasetShapes = Pick<OpenDataset, 'latent' | 'text'>;

/**
 * The MM-DiT. Widths that the config leaves open come from the data set.
 *
 * @throws OrchestratorError ERR_CONFIG: they contradict each other.
 */
export function modelSpec(config: Config, { latent, text }: DatasetShapes): ModelSpec {
  const { model } = config;
  const pooled = text.clipLPooledDim + text.clipGPooledDim;
  agree('model.latent_channels', model.latent_channels, latent[0], 'channels of the latents');
  agree('model.context_dim', model.context_dim, text.t5Dim, 'width of the T5 features');
  agree('model.pooled_dim', model.pooled_dim, pooled, 'width of both pooled vectors together');
  return {
    depth: model.depth,
    heads: model.hidden / 64,
    patch: model.patch,
    latentChannels: model.latent_channels,
    contextDim: text.t5Dim,
    pooledDim: pooled,
    posEmbedMaxSize: model.pos_embed_max_size,
    qkNorm: model.qk_norm,
    dualAttention: model.dual_attention,
  };
}

function agree(key: string, configured: number | null, found: number, what: string): void {
  if (configured === null || configured === found) return;
  throw new OrchestratorError(
    'ERR_CONFIG',
    `${key}: expected ${found}, the data set's ${what}, received ${configured}`,
  );
}

/** Context tokens of a sample: those of CLIP, then those of T5. */
function contextTokens(text: TextSpec): number {
  return text.clipTokens + text.t5Tokens;
}

/** Compute threads of a worker that shares the machine with `workers - 1` others. */
export function threadsOf(config: Config, host: HostInfo, workers: number): number {
  return config.threads ?? Math.max(1, Math.floor(host.processors / workers));
}

/** Threads that share a slot: one, unless a worker has more threads than slots. */
export function threadsPerSlot(config: Config, threads: number, workers: number): number {
  const slots = Math.ceil(slotCount(config) / workers);
  return Math.min(threads, config.threads_per_slot ?? Math.max(1, Math.floor(threads / slots)));
}

export interface TrainingEngine {
  spec: EngineSpec;
  precision: ResolvedPrecision;
}

/**
 * The engine for training.
 *
 * @param device ordinal of the GPU; null on the CPU, and for plans, which need no device.
 */
export function trainingEngine(
  config: Config,
  dataset: DatasetShapes,
  host: HostInfo,
  workers: number,
  device: number | null = null,
): TrainingEngine {
  const gpu = config.device === 'cuda';
  const precision = resolvePrecision(config.precision.compute, gpu ? GPU : host);
  const [, latentHeight, latentWidth] = dataset.latent;
  const threads = threadsOf(config, host, workers);
  const spec: EngineSpec = {
    model: modelSpec(config, dataset),
    latentHeight,
    latentWidth,
    contextTokens: contextTokens(dataset.text),
    microBatch: config.batch.micro,
    precision: precision.compute,
    residual: config.precision.residual,
    recompute: config.activation_checkpointing,
    threads,
    threadsPerSlot: gpu ? 1 : threadsPerSlot(config, threads, workers),
    device,
    training: true,
    ema: config.ema !== null,
  };
  return { spec, precision };
}
