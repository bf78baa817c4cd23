/** The boundary's engine: its spec, its calls and what they take. The rules are in contract.ts. */
import type { Dataset } from './dataset-contract.js';
import type {
  AccumulateResult,
  CaseResult,
  EngineLayout,
  GradientNorm,
  GradientPart,
  Joined,
  ProfileRow,
  QueryKeyRms,
} from './engine-results.js';
import type { ModelSpec, OptimizerName, TextSpec } from './specs.js';

export interface EngineSpec {
  model: ModelSpec;
  /** Latent height and width (not patches). */
  latentHeight: number;
  latentWidth: number;
  /** Context tokens M. */
  contextTokens: number;
  /** Samples that are computed together. */
  microBatch: number;
  precision: 'fp32' | 'bf16';
  /** Storage of the residual stream in bf16 mode. */
  residual: 'fp32' | 'bf16';
  /** Operands of the linear layers of the blocks: as the others, or 8-bit floats (in bf16 mode on a GPU). */
  linear: 'compute' | 'fp8';
  /**
   * Activation checkpointing: what the backward pass recomputes instead of keeping. Changes memory and time,
   * but no bit, except norms on GPUs that fuse GELU (docs/guide/gpu.md).
   */
  recompute: 'nothing' | 'norms' | 'mlp' | 'block';
  /** Compute threads. */
  threads: number;
  /** Threads that share a slot: more than 1 where there are fewer slots than threads. Changes no bit. */
  threadsPerSlot: number;
  /** Ordinal of the CUDA device to compute on, among those that the process sees; null for the CPU. */
  device: number | null;
  /** Whether to hold gradients and optimizer state; false for inference. */
  training: boolean;
  /** Where the engine trains: whose moments it holds, and by whose rule it updates the weights. */
  optimizer: OptimizerName;
  ema: boolean;
}

/** Weights that a forward pass can use: those that are trained, or their average. */
export type WeightsName = 'master' | 'ema';

/** An array of the engine's state, made of the layout's tensors: weights, or one of the layout's moments. */
export type StateName = WeightsName | (string & {});

/** Returns a parameter's values by its name in the layout. */
export type TensorReader = (tensor: string) => Float32Array | Promise<Float32Array>;

/** The state, one parameter at a time: a view of all of it could exceed 4 GiB, the limit of Node.js 20. */
export type StateTensors = ReadonlyMap<StateName, TensorReader>;

/** A copy of the state, which is valid until the next one. */
export interface Snapshot {
  state: ReadonlyMap<StateName, (tensor: string) => Float32Array>;
  /** For which the update of the next step, or another write, waited. */
  stallSeconds: number;
  /** Why the memory of the copy could not be page-locked: a GPU copies slower then. Null: it was, or on the CPU. */
  pageable: string | null;
}

/** The rows of one slot and their random draws. Arrays have a multiple of microBatch entries. */
export interface SlotBatch {
  slot: number;
  /** Row numbers in the dataset. */
  rows: Float64Array;
  /** 1 = synthetic caption, 0 = original. */
  synthetic: Uint8Array;
  /**
   * Bit 0 drops CLIP-L, bit 1 CLIP-G, bit 2 T5: the encoder's features, including the pooled ones, become
   * zeros. Bit 3 drops the whole row, with its latent.
   */
  dropped: Uint8Array;
  /**
   * Six floats per sample: a, b (network input z = a x0 + b eps), p, q (target = p x0 + q eps), the weight of
   * the sample's mean squared error, and the conditioning timestep (see src/objective/paths.ts).
   */
  coefficients: Float32Array;
  /** Sample ids for the noise counter; usually the row numbers. */
  sampleIds: Float64Array;
}

export interface AccumulateOptions {
  /** Slots to compute: contiguous and ascending. */
  slots: SlotBatch[];
  /** Slots of the whole global batch, V, which define the summation tree. */
  totalSlots: number;
  /** Factor of every sample's loss gradient; 1 / global batch for the mean. */
  gradScale: number;
  seed: bigint;
  step: number;
  statistics: boolean;
  /**
   * The first slot of step + 1, if it is known: a GPU prefetches its rows while it still works on this step.
   */
  next: SlotBatch | null;
  /**
   * Called on the event loop when the local sums of a bucket are complete, in bucket order, while the
   * backward pass still runs; null if nobody needs to know. It must not throw, because the engine has no
   * caller to pass an error to.
   */
  onBucket: ((bucket: number) => void) | null;
}

interface UpdateOptions {
  step: number;
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  /** Clipping factor min(1, maxNorm / norm), which the caller computes from gradientNorm(). */
  gradScale: number;
  /** EMA decay; 1 leaves the EMA unchanged. */
  emaDecay: number;
}

/**
 * This worker's part in workers of one machine that share memory. It is created before the worker joins a run;
 * the coordinator distributes the addresses. The same object serves for all generations.
 */
export interface Group {
  /**
   * The address at which other processes of this machine find this one's memory: machine/pid/descriptor/key.
   */
  readonly address: string;
  /**
   * Names the members of a generation, of which this one is `rank`; Engine.join() enters it. Throws
   * ERR_SHARED_MEMORY if they cannot share memory, and ERR_EXCHANGE if one of them has ended.
   */
  form(addresses: string[], rank: number, generation: number): void;
  /**
   * Leaves the generations that were formed so far: aborts every wait for other members with ERR_EXCHANGE. Who
   * does not call this, and is no member of the next generation, is killed by its members.
   */
  abort(): void;
}

export type EvaluateBatch = Omit<SlotBatch, 'slot'>;

/** One batch with explicit inputs, for `model eval` and for sampling. All arrays are fp32 and row-major. */
export interface RawBatch {
  /** [B, C, H, W] */
  z: Float32Array;
  /** [B], in [0, 1000] */
  timestep: Float32Array;
  /** [B, M, contextDim] */
  context: Float32Array;
  /** [B, pooledDim] */
  pooled: Float32Array;
}

export interface Engine {
  layout(): EngineLayout;
  /**
   * Deterministic, counter-based initialisation from the seed (adaLN and final linear zero, Xavier elsewhere,
   * N(0, 0.02) for the embedders' MLPs).
   */
  initialize(seed: bigint): Promise<void>;
  /**
   * A parameter's current values, as a view of native memory that close() empties: a live view on the CPU, a
   * copy that stays valid until the next update on a GPU. After writing to it, call parametersChanged().
   * Rejects with ERR_NO_EMA where the engine has no EMA.
   */
  state(name: StateName, tensor: string): Promise<Float32Array>;
  posEmbed(): Float32Array;
  /**
   * Must be called after writing to state() or posEmbed(): refreshes the bf16 copies and the device's memory.
   */
  parametersChanged(): Promise<void>;
  /** From now on rows come from this dataset; calls that were made before still use the previous one. */
  attach(dataset: Dataset, text: TextSpec): Promise<void>;
  accumulate(options: AccumulateOptions): Promise<AccumulateResult>;
  /**
   * The local gradient sums. Throws where all slots are on one device: the only sum stays there, and nothing
   * is exchanged.
   */
  gradientParts(): GradientPart[];
  /**
   * For each bucket, the memory where the collective must put the global sum: that of the first (or only)
   * part.
   */
  gradient(): Float32Array[];
  /** Norm of gradient(), which must hold the global sum. */
  gradientNorm(): Promise<GradientNorm>;
  /**
   * Norms of the last global sum in these ranges of elements, which begin at parameters: from, to, from, to,
   * ... Frozen parameters count as zero. Only before the next accumulate(); in a group only for the leader.
   */
  gradientNorms(bounds: Float64Array): Promise<Float64Array>;
  /** |EMA - weights| / |weights| over all trained parameters. Rejects with ERR_NO_EMA. */
  emaDistance(): Promise<number>;
  /**
   * Joins the engine to a group, or to its next generation: from now on all members share one copy of the
   * state, and reduce() and update() are collective, called by every member in the same order. join() itself is
   * collective. The first time, it comes before the state is written or viewed. The state stays as long as one
   * of those lives who have it; if members were killed in the middle of an update, the others complete it here.
   * The leader (rank 0) writes the state if there is none. Rejects with ERR_SHARED_MEMORY, also on a device, and
   * with ERR_EXCHANGE if a member was lost.
   */
  join(group: Group): Promise<Joined>;
  /**
   * Rendezvous: prepares to sum gradients with the devices of other workers, as `rank` of those with the slot ranges in
   * `bounds` (from and to of rank 0, of rank 1, ...). Resolves with what the others must know:
   * GPU/library/unique id, the last of rank 0 only. Rejects with ERR_CUDA if devices cannot be connected,
   * and says why.
   */
  rendezvous(rank: number, bounds: Float64Array): Promise<string>;
  /**
   * Connects the devices, so that reduce() is collective from now on, from device to device. All ranks call
   * it with rank 0's unique id, before the first accumulate. Rejects with ERR_EXCHANGE if it is aborted.
   */
  connectDevices(leader: string): Promise<void>;
  /** Aborts every wait for other devices with ERR_EXCHANGE, now and until the next rendezvous(). */
  abortDevices(): void;
  /**
   * Collective: called by all members of the group after the leader has written the state, or where it stays,
   * with the step after which it is.
   */
  stateLoaded(step: number): Promise<void>;
  /**
   * Sums the gradients of all workers that joined or connected. Rejects with ERR_EXCHANGE if it is aborted.
   */
  reduce(): Promise<GradientNorm>;
  update(options: UpdateOptions): Promise<void>;
  /**
   * Copies the state concurrently with the engine's work, also with that of a GPU; whatever writes the state
   * waits for the copy. Rejects with ERR_OUT_OF_MEMORY where there is no room for it.
   */
  snapshot(): Promise<Snapshot>;
  /** On a GPU, begins to get the memory of snapshots, beside the engine's work, so that the first one finds it. */
  prepareSnapshot(): void;
  /**
   * Digest of all the state and the positions, 32 hexadecimal digits: equal bits give equal digests on every
   * machine and device. It detects accidents, not attacks.
   */
  digest(): Promise<string>;
  /**
   * What computes the attention: "cuDNN 9.24.0", or "own kernels" and why it is not a library; null on the
   * CPU. The first call makes and checks plans: seconds.
   */
  attentionBy(): Promise<string | null>;
  /** Forward pass only. Returns the unweighted mean squared error of each sample. */
  evaluate(
    batch: EvaluateBatch,
    options: { weights: WeightsName; seed: bigint; step: number },
  ): Promise<Float32Array>;
  /**
   * Forward pass only, for any number of samples, in chunks of microBatch distributed over the threads.
   * Returns the velocity [B, C, H, W].
   */
  predict(batch: RawBatch, weights: WeightsName): Promise<Float32Array>;
  /** Root mean squares of queries and keys before any normalisation, over samples, tokens and heads. */
  queryKeyRms(batch: RawBatch, weights: WeightsName): Promise<QueryKeyRms[]>;
  /**
   * Freezes the parameters in these ranges of elements: update() and gradientNorm() skip them. `bounds`:
   * from, to, from, to, ..., ascending and disjoint.
   */
  freeze(options: { bounds: Float64Array }): Promise<void>;
  /** Forward, loss and gradients of an explicit case of exactly microBatch samples. */
  evaluateCase(batch: RawBatch, target: Float32Array, gradients: boolean): Promise<CaseResult>;
  /**
   * Times of one slot's forward and backward pass by kind of operation, averaged over `repeats`: on one
   * thread, or by the device's clock.
   */
  profile(repeats: number): Promise<ProfileRow[]>;
  /**
   * Native bytes that the process holds now and held at most, and bytes that it holds of its device (0 on the
   * CPU).
   */
  memory(): { current: number; peak: number; device: number };
  /**
   * Empties all views at once, so no read or write of one may be in progress. Resolves when all earlier calls
   * are done and all memory is freed (if a buffer was transferred out of its view: when that buffer is
   * collected). From now on every other call throws ERR_HANDLE.
   */
  close(): Promise<void>;
}
