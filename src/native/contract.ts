/**
 * The only typed boundary between TypeScript and the native addon.
 *
 * Rules: absent values are `T | null`, never optional properties, so `undefined` is always a bug. Every handle is
 * tagged natively; a wrong or closed one throws ERR_HANDLE. Options are validated in TypeScript before they get here,
 * and checked again natively where memory safety depends on them. Native errors arrive as `Error` with a stable
 * `code` ("ERR_..."). Nothing here blocks the event loop for more than about a millisecond; whatever takes longer
 * returns a promise and runs on native threads (libuv's pool is not used). Two exceptions, for commands that have nothing
 * else to do: planFigures and planOperations take up to 0.2 s for the largest models.
 */

/** What the machine offers. */
export interface HostInfo {
  /** Kernel set in use: "generic", "avx2", "avx512", "avx512bf16", "neon" or "neonbf16". */
  isa: string;
  /** Whether bf16 matmuls run at full speed, so that `precision: auto` means bf16. */
  fastBf16: boolean;
  /** Raised whenever a kernel's result changes by a bit: how sums are ordered, functions approximated. */
  kernels: string;
  /** Processors this process may run on. */
  processors: number;
}

/** A GPU that this process sees. */
export interface CudaDevice {
  /** "NVIDIA H200" */
  name: string;
  memoryBytes: number;
  /** "CUDA 13.0, cuBLASLt 13.1.1, NCCL 2.30.7" */
  libraries: string;
  /** Why it cannot be used, or null. */
  problem: string | null;
}

/** An MM-DiT (design: 2 streams, adaLN-zero, joint attention). hidden = 64 * heads. */
export interface ModelSpec {
  depth: number;
  heads: number;
  patch: number;
  latentChannels: number;
  contextDim: number;
  pooledDim: number;
  /** Side of the stored grid of positions, in patches. */
  posEmbedMaxSize: number;
  qkNorm: 'none' | 'rms';
  /** Indices of blocks with a second, image-only attention. */
  dualAttention: number[];
}

export interface TextSpec {
  /** Tokens of CLIP-L and CLIP-G (same for both) and of T5; their sum is the context's length M. */
  clipTokens: number;
  t5Tokens: number;
  clipLDim: number;
  clipGDim: number;
  t5Dim: number;
  clipLPooledDim: number;
  clipGPooledDim: number;
}

export interface EngineSpec {
  model: ModelSpec;
  /** Latent height and width (not patches). */
  latentHeight: number;
  latentWidth: number;
  /** Context tokens M. */
  contextTokens: number;
  /** Samples of a slot. */
  microBatch: number;
  precision: 'fp32' | 'bf16';
  /** Storage of the residual stream in bf16 mode. */
  residual: 'fp32' | 'bf16';
  /** Activation checkpointing: what backward computes again instead of keeping it. Changes memory and time, no bit. */
  recompute: 'nothing' | 'norms' | 'mlp' | 'block';
  /** Compute threads. */
  threads: number;
  /** How many of them share a slot: more than 1 where there are fewer slots than threads. Changes no bit. */
  threadsPerSlot: number;
  /** The CUDA device to compute on, by its number among those that the process sees; null: the CPU. Throws ERR_CUDA. */
  device: number | null;
  /** Whether to hold gradients and optimizer state; false for inference. */
  training: boolean;
  ema: boolean;
}

/** A parameter's place in the flat fp32 arrays. Offsets and lengths are in elements; parameters are 16-element aligned. */
export interface TensorInfo {
  /** Official name, without prefix: "joint_blocks.0.x_block.attn.qkv.weight". */
  name: string;
  shape: number[];
  offset: number;
  length: number;
}

/** A contiguous range of the flat gradient that is complete together; in the order in which backward completes them. */
export interface BucketInfo {
  offset: number;
  length: number;
}

export interface EngineLayout {
  /** Elements of each flat array, padding included. */
  length: number;
  tensors: TensorInfo[];
  buckets: BucketInfo[];
  /** The position table, [P * P * hidden], not trained. */
  posEmbed: { shape: number[] };
  /** Trainable parameters, padding excluded. */
  parameters: number;
  /** Bytes of one slot's activation arena, with and without backward. */
  arenaBytes: number;
  /** Model FLOPs of a training step for one slot (3 x forward; no credit for recomputation). */
  flopsPerSlot: number;
}

/** One array of the engine's state, in the layout's tensors. */
export type StateName = 'master' | 'ema' | 'm' | 'v';

/** Gives a parameter's values by its name in the layout. */
export type TensorReader = (tensor: string) => Float32Array | Promise<Float32Array>;

/** The state, a parameter at a time: a view of all of it could be above 4 GiB, more than Node.js 20 allows. */
export type StateTensors = ReadonlyMap<StateName, TensorReader>;

/** Rows of one slot, and the random draws that belong to them. Arrays have microBatch entries. */
export interface SlotBatch {
  slot: number;
  /** Row numbers in the dataset. */
  rows: Float64Array;
  /** 1 = synthetic caption, 0 = original. */
  synthetic: Uint8Array;
  /** Bit 0 drops CLIP-L, bit 1 CLIP-G, bit 2 T5: their features and pooled parts become zeros. */
  dropped: Uint8Array;
  /**
   * Per sample, 6 floats: a, b (network input z = a x0 + b eps), p, q (target = p x0 + q eps), weight of the sample's
   * mean squared error, and the timestep the model is told, in [0, 1000].
   */
  coefficients: Float32Array;
  /** Sample identity for the noise counter; usually the row numbers. */
  sampleIds: Float64Array;
}

export interface SlotResult {
  slot: number;
  /** Per sample: mean squared error before weighting. */
  losses: Float32Array;
}

export interface AttentionStatistics {
  /** Per attention, in model order ("block 3", "block 3 attn2"). */
  names: string[];
  maxAbsLogit: Float64Array;
  /** Mean entropy of the rows' softmax, nats. */
  meanEntropy: Float64Array;
}

export interface AccumulateOptions {
  /** Slots to compute: contiguous, ascending numbers. */
  slots: SlotBatch[];
  /** Slots of the whole global batch, V: defines the summation tree. */
  totalSlots: number;
  /** Multiplies every sample's loss gradient; 1 / global batch for the mean. */
  gradScale: number;
  seed: bigint;
  step: number;
  statistics: boolean;
  /** The first slot of step + 1, if it is known: a device gets its rows while it still works on this step. */
  next: SlotBatch | null;
  /**
   * Called on the event loop when the local sums of a bucket are complete, in bucket order, while backward still runs;
   * null where nobody needs to know. Must not throw: nobody would hear of it.
   */
  onBucket: ((bucket: number) => void) | null;
}

export interface AccumulateResult {
  slots: SlotResult[];
  statistics: AttentionStatistics | null;
  /** Seconds of compute threads spent gathering rows, and in forward and backward, summed over threads. */
  gatherSeconds: number;
  computeSeconds: number;
}

/**
 * The local sums: maximal aligned subtrees [lo, hi) of the tree over slots, each by bucket of the layout. Valid from the
 * moment a bucket is announced until the next accumulate.
 */
export interface GradientPart {
  lo: number;
  hi: number;
  buckets: Float32Array[];
}

export interface UpdateOptions {
  step: number;
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  /** Clipping factor min(1, maxNorm / norm), computed by the caller from gradientNorm(). */
  gradScale: number;
  /** 1 leaves the EMA as it is. */
  emaDecay: number;
}

/** L2 norm of a gradient over all that is trained (fixed order, double), NaN or infinite included. */
export interface GradientNorm {
  norm: number;
  /** The first element that is not finite, or -1. */
  firstNonFinite: number;
  /** Bytes that came from other workers' devices for it. */
  receivedBytes: number;
}

/** Workers of one machine that share memory. Made before joining a run; the coordinator tells everyone the addresses. */
export interface Group {
  /** Where other processes of this machine find this one's memory: machine/pid/descriptor/key. */
  readonly address: string;
  /** Takes place `rank` among the members at these addresses. Throws ERR_SHARED_MEMORY. */
  form(addresses: string[], rank: number): void;
  /** Ends every wait for other members with ERR_EXCHANGE. */
  abort(): void;
}

export interface EvaluateBatch {
  rows: Float64Array;
  synthetic: Uint8Array;
  dropped: Uint8Array;
  coefficients: Float32Array;
  sampleIds: Float64Array;
}

/** One case with explicit inputs, for `model eval` and for sampling. All arrays fp32, row-major. */
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

export interface CaseResult {
  velocity: Float32Array;
  /** Mean over all elements of (velocity - target)^2. */
  loss: number;
  /** Gradients of that mean, keyed by official name and by "input.z_t", "input.context", "input.pooled". */
  gradients: Map<string, Float32Array>;
}

export interface QueryKeyRms {
  /** "joint_blocks.0.x_block.attn" */
  attention: string;
  query: number;
  key: number;
}

/** All operations of one kind in a slot's pass. */
export interface PlannedOperation {
  name: string;
  /** How many there are. */
  count: number;
  /** Multiply-adds times two; 0 for operations without matmuls. */
  flops: number;
  /** Bytes of all operands: what has to be read and written at least once. */
  bytes: number;
}

export interface ProfileRow extends PlannedOperation {
  /** Processor seconds of a pass, all of them together. */
  seconds: number;
}

/** What a plan needs, known without allocating it. */
export interface PlanFigures {
  parameters: number;
  /** Elements of each flat array, padding included. */
  length: number;
  flopsPerSlot: number;
  /** Bytes of one thread's activations and scratch for `recompute` nothing, norms, mlp, block. */
  arenaBytes: number[];
  /** FLOPs of one slot as they are executed, recomputation included; by level, as arenaBytes. */
  executedFlops: number[];
  /** Bytes of the operands of one slot's operations without matmuls; by level, as arenaBytes. */
  memoryBoundBytes: number[];
}

export interface Engine {
  layout(): EngineLayout;
  /** Deterministic initialisation by counter from the seed (adaLN and final linear zero, Xavier elsewhere, N(0, 0.02) for the embedders' MLPs). */
  initialize(seed: bigint): Promise<void>;
  /**
   * A parameter's values as they are now, a view on native memory, which close() empties: on the CPU a live one, of a
   * device a copy that stands until the next update. After writing to it call parametersChanged(). Rejects with
   * ERR_NO_EMA where the engine holds no such state.
   */
  state(name: StateName, tensor: string): Promise<Float32Array>;
  posEmbed(): Float32Array;
  /** After state() or posEmbed() was written to: refreshes bf16 copies, and what a device holds. */
  parametersChanged(): Promise<void>;
  /** Rows come from this dataset from now on; what was asked for before still has those of the one before. */
  attach(dataset: Dataset, text: TextSpec): Promise<void>;
  accumulate(options: AccumulateOptions): Promise<AccumulateResult>;
  /** Throws where a device has all slots: its only sum stays there, and nothing has to be exchanged. */
  gradientParts(): GradientPart[];
  /** By bucket, where the global sum is to be put by the collective: the first part's (or the only one's) memory. */
  gradient(): Float32Array[];
  /** Norm of gradient(), which must hold the whole sum. */
  gradientNorm(): Promise<GradientNorm>;
  /**
   * From now on the state is the group's, one copy for all, and reduce() and update() are done together: every member
   * calls them in the same order. Itself called by all; before the state is written or viewed. The leader (rank 0) writes it.
   * Rejects with ERR_SHARED_MEMORY on a device.
   */
  join(group: Group): Promise<void>;
  /**
   * Makes ready to sum gradients with the devices of other workers: as `rank` of those whose slots `bounds` tells (of
   * rank 0, from and to, of rank 1, ...). Resolves with what they must know: GPU/library/rendezvous, the last of rank 0
   * only. Rejects with ERR_CUDA saying why devices cannot be connected.
   */
  offerDevice(rank: number, bounds: Float64Array): Promise<string>;
  /**
   * From now on reduce() is done together, from device to device; called by all ranks with what rank 0 offered. Before
   * the first accumulate. Rejects with ERR_EXCHANGE when it is given up.
   */
  connectDevices(leader: string): Promise<void>;
  /** Ends every wait for other devices, now and later, with ERR_EXCHANGE; until the next offer. */
  abandonDevices(): void;
  /** Called by all members of the group after the leader has written the state. */
  stateLoaded(): Promise<void>;
  /** Sums the gradients of all that joined or connected. Rejects with ERR_EXCHANGE when that is given up. */
  reduce(): Promise<GradientNorm>;
  update(options: UpdateOptions): Promise<void>;
  /**
   * Copies the state beside the engine's work; the next update waits for it. The copy stands until the next snapshot.
   * Rejects with ERR_OUT_OF_MEMORY where there is no room for it.
   */
  snapshot(): Promise<Map<StateName, (tensor: string) => Float32Array>>;
  /**
   * Of all the state and the positions, 32 hexadecimal digits: equal bits give equal digests on every machine and
   * device. It finds accidents, not attackers.
   */
  digest(): Promise<string>;
  /** Forward only. Per-sample mean squared error (unweighted). */
  evaluate(
    batch: EvaluateBatch,
    options: { weights: 'master' | 'ema'; seed: bigint; step: number },
  ): Promise<Float32Array>;
  /** Forward only, any number of samples (run in chunks of microBatch over the threads). Velocity [B, C, H, W]. */
  predict(batch: RawBatch, weights: 'master' | 'ema'): Promise<Float32Array>;
  /** Root mean squares of queries and keys before any normalisation, over samples, tokens and heads. */
  queryKeyRms(batch: RawBatch, weights: 'master' | 'ema'): Promise<QueryKeyRms[]>;
  /**
   * Parameters in these ranges of elements stay as they are: update() and gradientNorm() pass over them. `bounds`: from, to, from, to, ..., ascending and disjoint.
   */
  freeze(options: { bounds: Float64Array }): Promise<void>;
  /** Forward, loss and gradients of an explicit case of exactly microBatch samples. */
  evaluateCase(batch: RawBatch, target: Float32Array, gradients: boolean): Promise<CaseResult>;
  /** Times of one slot's pass by kind of operation, averaged over `repeats`: of one thread, or by the device's clock. */
  profile(repeats: number): Promise<ProfileRow[]>;
  /** Native bytes held by the process now and at most, and bytes that it holds of its device (0 on the CPU). */
  memory(): { current: number; peak: number; device: number };
  /**
   * Views become empty at once: no read or write of one may be under way. Resolves when what was asked for before is
   * done and all memory is given back (of a buffer that was transferred out of its view, when that is collected). From now
   * on every other call throws ERR_HANDLE.
   */
  close(): Promise<void>;
}

/** dst += src, natively, on the event loop: at most 262,144 elements a call. */
export type AddInto = (dst: Float32Array, src: Float32Array) => void;

/** One role's values in one Arrow record batch: rows x width elements, contiguous, at byteOffset of the file. */
export interface ColumnSegment {
  file: number;
  firstRow: number;
  rows: number;
  byteOffset: number;
}

export interface ColumnSpec {
  /** "latent", "original.clip_l", "synthetic.t5_pooled", ... */
  role: string;
  type: 'float16' | 'float32';
  /** Elements of a row. */
  width: number;
  segments: ColumnSegment[];
}

export interface DatasetSpec {
  files: { path: string; bytes: number }[];
  rows: number;
  columns: ColumnSpec[];
}

export interface ColumnScan {
  min: number;
  max: number;
  mean: number;
  std: number;
  nonFinite: number;
  /** First row with a non-finite value, or -1. */
  firstNonFiniteRow: number;
  histogram: Float64Array;
}

export interface Dataset {
  /** One row of a role as fp32 (for tools; training gathers natively). */
  row(role: string, row: number): Float32Array;
  /** Streams over rows [from, to) of a role. histogram: `bins` equal bins over [low, high]. */
  scan(role: string, from: number, to: number, low: number, high: number, bins: number): Promise<ColumnScan>;
  close(): void;
}

/**
 * Functions of double precision with the same bits on every machine (native/core/elementary.h): those of Math, and `**`
 * of numbers that are not constants, differ between versions of Node.js. Correctly rounded but for about one result in
 * ten million. Angles beyond a million are NaN.
 */
export interface Elementary {
  exp(x: number): number;
  log(x: number): number;
  sin(x: number): number;
  cos(x: number): number;
  tan(x: number): number;
  /** NaN for infinities. */
  atan2(y: number, x: number): number;
  /** 10000^x */
  powerOf10000(x: number): number;
  /** x^n, and 1 - x^n rounded once, of x in [0, 1] and a whole number n. */
  power(x: number, n: number): number;
  oneMinusPower(x: number, n: number): number;
  /** Makes pairs of independent standard normal numbers of pairs of uniforms in (0, 1), in place; about 5 million a second. */
  normalPairs(values: Float64Array): void;
  /**
   * [coordinates, 2 * quarter]: the sines of coordinate * 10000^(-j / quarter), then the cosines, j = 0 ... quarter - 1;
   * about 30 million a second.
   */
  encodePositions(coordinates: Float64Array, quarter: number): Float32Array;
}

export interface NativeAddon {
  elementary: Elementary;
  host(): HostInfo;
  /** Devices by the number that EngineSpec.device means. Rejects with ERR_CUDA saying why there is none. */
  cudaDevices(): Promise<CudaDevice[]>;
  /** FLOP/s of a large matmul, and bytes/s that a large copy reads and writes, by the device's clock. Not while an engine computes. */
  deviceCeilings(device: number, precision: 'fp32' | 'bf16'): Promise<{ flops: number; bandwidth: number }>;
  /** Rejects with ERR_MODEL_SPEC, ERR_OUT_OF_MEMORY, or ERR_CUDA where there is no such device. */
  createEngine(spec: EngineSpec): Promise<Engine>;
  createGroup(): Group;
  /** Builds the graph of a model of any size and plans its memory, allocating none of it. */
  planFigures(spec: EngineSpec): PlanFigures;
  /** The operations of a slot's pass in the order of the graph, allocating and running nothing; of the CPU's graph, whatever `device` is. */
  planOperations(spec: EngineSpec): PlannedOperation[];
  /** Maps the files (read-only) and checks every segment against the files' real sizes. Rejects with ERR_FILE_... or ERR_DATA_SPEC. */
  openDataset(spec: DatasetSpec): Promise<Dataset>;
  /** Whether the int32 (or int64) list offsets at byteOffset of a file are regular: width elements in each of rows lists, from the first. Returns the first offset, or -1 and the offending row. */
  checkListOffsets(
    path: string,
    byteOffset: number,
    rows: number,
    width: number,
    wide: boolean,
  ): { first: number; badRow: number };
  addInto: AddInto;
  /** FLOP/s of one m x n x k matmul on each of `threads` threads at once, for the peak in the benches and doctor. */
  matmulPeak(
    precision: 'fp32' | 'bf16',
    m: number,
    n: number,
    k: number,
    threads: number,
    seconds: number,
  ): Promise<number>;
}
