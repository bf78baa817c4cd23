/** The engine for a configuration and a data set. */
import { type FromData, modelOf } from '../config/model.js';
import { type Config, slotCount } from '../config/schema.js';
import type { OpenDataset } from '../data/dataset.js';
import { OrchestratorError, refuse } from '../errors.js';
import type { EngineSpec, HostInfo, ModelSpec } from '../native/contract.js';
import { contextTokens } from '../native/specs.js';
import { GPU, resolvePrecision } from './precision.js';

export type DatasetShapes = Pick<OpenDataset, 'latent' | 'text'>;

/** The side of the position grid where nothing larger is needed, in patches. */
const LEAST_GRID = 16;

/** The side of the position grid that latents need, in patches. */
export function gridOf([, height, width]: DatasetShapes['latent'], patch: number): number {
  return Math.ceil(Math.max(height, width) / patch);
}

/** What the data gives to a model: its widths, and a position grid that is large enough. */
function modelFromData({ latent, text }: DatasetShapes, patch: number): FromData {
  const [latentChannels] = latent;
  const posEmbedMaxSize = Math.max(LEAST_GRID, gridOf(latent, patch));
  const pooledDim = text.clipLPooledDim + text.clipGPooledDim;
  return { latentChannels, contextDim: text.t5Dim, pooledDim, posEmbedMaxSize };
}

/**
 * The model of a configuration. What it leaves open comes from the data set.
 *
 * @param placeOf where a key was set, for messages: " (run.yaml:3:5)", or "".
 */
export function modelSpec(
  config: Config,
  shapes: DatasetShapes,
  placeOf: (key: string) => string = () => '',
): ModelSpec {
  const [, height, width] = shapes.latent;
  const { patch } = config.model;
  const found = modelFromData(shapes, patch);
  const spec = modelOf(config, found);
  const problems: OrchestratorError[] = [];
  const expect = (holds: boolean, key: string, expected: string, received: number) => {
    if (holds) return;
    const message = `${key}${placeOf(key)}: expected ${expected}, received ${received}`;
    problems.push(new OrchestratorError('ERR_CONFIG', message));
  };
  const same = (name: 'latentChannels' | 'contextDim' | 'pooledDim', key: string, what: string) =>
    expect(spec[name] === found[name], key, `${found[name]}, the data set's ${what}, or null`, spec[name]);
  same('latentChannels', 'model.latent_channels', 'channels of the latents');
  same('contextDim', 'model.context_dim', 'width of the T5 features');
  same('pooledDim', 'model.pooled_dim', 'width of both pooled vectors together');
  const latents = `latents of ${height} x ${width}`;
  if (height % patch !== 0 || width % patch !== 0) {
    expect(
      false,
      'model.patch',
      `a divisor of the height and width of the ${latents} in ${config.data.path}`,
      patch,
    );
  } else {
    const side = gridOf(shapes.latent, patch);
    const grid = `at least ${side}, which ${latents} need in patches of ${patch}, or null`;
    expect(spec.posEmbedMaxSize >= side, 'model.pos_embed_max_size', grid, spec.posEmbedMaxSize);
  }
  refuse(problems);
  return spec;
}

/** Compute threads of a worker that shares the machine with `workers - 1` others. */
export function threadsOf(config: Config, host: HostInfo, workers: number): number {
  return config.threads ?? Math.max(1, Math.floor(host.processors / workers));
}

/** Threads that share a slot: one, unless a worker has more threads than slots. */
function threadsPerSlot(config: Config, threads: number, workers: number): number {
  const slots = Math.ceil(slotCount(config) / workers);
  return Math.min(threads, config.threads_per_slot ?? Math.max(1, Math.floor(threads / slots)));
}

export type TrainingEngine = ReturnType<typeof trainingEngine>;

/**
 * The engine for training.
 *
 * @param device ordinal of the GPU; null on the CPU, and for plans, which need no device.
 * @param together How many of the workers share a machine.
 */
export function trainingEngine(
  config: Config,
  dataset: DatasetShapes,
  host: HostInfo,
  workers: number,
  device: number | null = null,
  together = workers,
) {
  const gpu = config.device === 'cuda';
  const precision = resolvePrecision(config.precision, gpu ? GPU : host);
  const [, latentHeight, latentWidth] = dataset.latent;
  const threads = threadsOf(config, host, together);
  const spec: EngineSpec = {
    model: modelSpec(config, dataset),
    latentHeight,
    latentWidth,
    contextTokens: contextTokens(dataset.text),
    microBatch: config.batch.micro,
    precision: precision.compute,
    residual: config.precision.residual,
    linear: config.precision.linear,
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
    linear: 'compute',
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
