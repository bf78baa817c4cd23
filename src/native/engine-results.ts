/** The boundary's engine: what its calls return. The rules are in contract.ts. */

/**
 * A parameter's position in the flat fp32 arrays. Offsets and lengths are in elements; parameters are aligned
 * to 16 elements.
 */
export interface TensorInfo {
  /** Official name, without prefix: "joint_blocks.0.x_block.attn.qkv.weight". */
  name: string;
  shape: number[];
  offset: number;
  length: number;
}

/**
 * A contiguous range of the flat gradient that is complete at one time. Buckets are in the order in which the
 * backward pass completes them.
 */
export interface BucketInfo {
  offset: number;
  length: number;
}

/** The parameters of a model, known without an engine. */
export interface ModelLayout {
  /** Elements of each flat array, padding included. */
  length: number;
  tensors: TensorInfo[];
  buckets: BucketInfo[];
  /** The position table, [1, P * P, hidden], which is not trained. */
  posEmbed: { shape: number[] };
  /** Trainable parameters, padding excluded. */
  parameters: number;
}

export interface EngineLayout extends ModelLayout {
  /** The states that the optimizer keeps; none where the engine does not train. */
  moments: string[];
  /** Bytes of one micro-batch's activation arena, including the backward pass where the engine trains. */
  arenaBytes: number;
  /** Model FLOPs of a micro-batch in training (3 x forward; recomputation is not counted). */
  flops: number;
}

interface SlotResult {
  slot: number;
  /** Mean squared error of each sample before weighting. */
  losses: Float32Array;
}

/** The streams whose tokens ask in an attention. */
type Stream = 'text' | 'image';

/** Statistics of the logits, one entry for every attention operation and stream with queries. */
interface AttentionStatistics {
  /** Names of the attention operations, in model order ("block 3", "block 3 attn2"). */
  names: string[];
  streams: Stream[];
  maxAbsLogit: Float64Array;
  /** Mean entropy of the softmax over each row, in nats. */
  meanEntropy: Float64Array;
  /** Numbers of rows, one for each query of each head. */
  rows: Float64Array;
}

export interface AccumulateResult {
  slots: SlotResult[];
  statistics: AttentionStatistics | null;
  /**
   * What the engine measured, under the names of `telemetry/metrics.ts`: seconds that compute threads spent
   * gathering rows (and gathering them while nothing was computed), in forward passes (0 on a GPU, which is
   * not asked), and in forward and backward passes, summed over threads.
   */
  numbers: Record<'gather_seconds' | 'gather_wait_seconds' | 'forward_seconds' | 'compute_seconds', number>;
}

/**
 * The local sums: maximal aligned subtrees [lo, hi) of the tree over slots, each divided into the layout's
 * buckets. They are valid from the moment a bucket is announced until the next accumulate.
 */
export interface GradientPart {
  lo: number;
  hi: number;
  buckets: Float32Array[];
}

/**
 * L2 norm of the gradient of all trained parameters (summed in a fixed order, in double precision); NaN or
 * infinite if an element is.
 */
export interface GradientNorm {
  norm: number;
  /** Index of the first element that is not finite, or -1. */
  firstNonFinite: number;
  /** Bytes received from other workers' devices for it. */
  receivedBytes: number;
}

/** The state that an engine finds when it joins a group. */
export interface Joined {
  /** The step after which it is; null: there is none, and one must be loaded. */
  step: number | null;
  /** Pieces of the update of that step that killed members had left out, and the others completed now. */
  completed: number;
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

/** All operations of one kind in a slot's forward and backward pass. */
export interface PlannedOperation {
  name: string;
  /** Number of these operations. */
  count: number;
  /** Multiplications and additions; 0 for operations without matmuls. */
  flops: number;
  /** Bytes of all operands: what must be read and written at least once. */
  bytes: number;
}

export interface ProfileRow extends PlannedOperation {
  /** Processor seconds per pass, all these operations together. */
  seconds: number;
}

/** What an engine needs, known without allocating it. */
export interface PlanFigures {
  parameters: number;
  /** Elements of each flat array, padding included. */
  length: number;
  /** Like the moments of EngineLayout. */
  moments: string[];
  /** Like those of EngineLayout. */
  flops: number;
  /** Bytes of one thread's activations and scratch, for `recompute` nothing, norms, mlp and block. */
  arenaBytes: number[];
  /** FLOPs executed for a micro-batch, including recomputation; by level, like arenaBytes. */
  executedFlops: number[];
  /** Bytes of the operands of its operations without matmuls; by level, like arenaBytes. */
  memoryBoundBytes: number[];
}
