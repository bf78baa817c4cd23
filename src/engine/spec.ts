/** The engine for a configuration and a data set. */
import { modelOf } from '../config/model.js';
import { type Config, slotCount } from '../config/schema.js';
import type { OpenDataset } from '../data/dataset.js';
import { OrchestratorError } from '../errors.js';
import type { EngineSpec, HostInfo, ModelSpec } from '../native/contract.js';
import { contextTokens } from '../native/specs.js';
import { GPU, resolvePrecision } from './precision.js';

export type DatasetShapes = Pick<OpenDataset, 'latent' | 'text'>;

/** The model of a configuration. Widths that it leaves open come from the data set. */
function modelSpec(config: Config, { latent, text }: DatasetShapes): ModelSpec {
  const { latent_channels, context_dim, pooled_dim } = config.model;
  const pooledDim = text.clipLPooledDim + text.clipGPooledDim;
  agree('model.latent_channels', latent_channels, latent[0], 'channels of the latents');
  agree('model.context_dim', context_dim, text.t5Dim, 'width of the T5 features');
  agree('model.pooled_dim', pooled_dim, pooledDim, 'width of both pooled vectors together');
  return modelOf(config, { contextDim: text.t5Dim, pooledDim });
}

function agree(key: string, configured: number | null, found: number, what: string): void {
  if (configured === null || configured === found) return;
  throw new OrchestratorError(
    'ERR_CONFIG',
    `${key}: expected ${found}, the data set's ${what}, received ${configured}`,
  );
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

export type TrainingEngine = ReturnType<typeof trainingEngine>;

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
) {
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
    optimizer: config.optimizer.name,
    ema: config.ema !== null,
  };
  return { spec, precision };
}

/** A model for the given latents, and how many samples of them at once. */
type InferenceShape = Pick<
  EngineSpec,
  'model' | 'latentHeight' | 'latentWidth' | 'contextTokens' | 'microBatch'
>;

/**
 * The engine for a forward pass: in fp32, on one thread of the CPU.
 *
 * @param other what is different.
 */
export function inferenceSpec(shape: InferenceShape, other: Partial<EngineSpec> = {}): EngineSpec {
  const precision = other.precision ?? 'fp32';
  return {
    ...shape,
    precision,
    residual: precision,
    recompute: 'nothing',
    threads: 1,
    threadsPerSlot: 1,
    device: null,
    training: false,
    optimizer: 'adamw',
    ema: false,
    ...other,
  };
}
