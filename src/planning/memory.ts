/** The peak memory of a worker, part by part. */
import { addUp, type MemoryPart } from '../memory/parts.js';
import type { EngineSpec, PlanFigures } from '../native/contract.js';
import { hiddenOf } from '../native/specs.js';
import { localSubtrees, type Range } from '../step/tree.js';

export const LEVELS = ['nothing', 'norms', 'mlp', 'block'] as const;
export type Level = (typeof LEVELS)[number];

export interface WorkerShape {
  spec: EngineSpec;
  /** Figures of the training engine. */
  training: PlanFigures;
  /** Figures of a forward-only engine of the same shape. */
  forward: PlanFigures;
  /** This worker's slots of `totalSlots`. */
  slots: Range;
  totalSlots: number;
  /** Number of workers with which gradients are exchanged over the network; 0 with shared memory. */
  peers: number;
  /**
   * Whether the worker has the state. All do, except that workers with shared memory have one state together.
   */
  holdsState: boolean;
  /** Whether the worker writes checkpoints (rank 0), for which it copies the state. */
  saves: boolean;
  /** Whether the worker computes on a GPU. */
  onGpu: boolean;
  /** Weights that are validated; empty = no validation. */
  validated: readonly ('ema' | 'master')[];
  /**
   * Elements whose optimizer moments are never written: those of frozen parameters, until the run is resumed.
   */
  untouched: number;
  /** Arrays of the state that a worker with a GPU copies to the machine's memory. */
  copied: number;
}

/**
 * Node.js, the libraries and the compiled kernels: the measured peak of a single worker beyond its arrays,
 * which does not depend on the size of the model (87 to 97 MiB; Node.js 20, x86-64).
 */
const PROCESS_BYTES = 92 * 1024 ** 2;
/**
 * The part of PROCESS_BYTES that is pages of Node.js and libraries. All processes of a machine share them,
 * and the system drops them when it needs memory.
 */
const PROGRAM_BYTES = 64 * 1024 ** 2;
/** Memory of the coordinator and the launcher, without these pages. */
const COORDINATION_BYTES = 40 * 1024 ** 2;
/** Received slices and socket buffers per peer (20 to 35 MiB). */
const PEER_BYTES = 30 * 1024 ** 2;

/** Workspace of cuBLASLt (native/kernels/cuda/matmul.cc). */
const WORKSPACE_BYTES = 64 * 1024 ** 2;

const present = (parts: MemoryPart[]) => parts.filter(({ bytes }) => bytes > 0);

/** The parts of a worker's GPU memory, without the driver's. */
export function gpuMemory(worker: WorkerShape, level: Level): MemoryPart[] {
  const { spec, training, forward, slots, totalSlots, validated } = worker;
  const { length } = training;
  const ema = spec.ema ? 1 : 0;
  const copies = spec.precision === 'bf16' ? 1 + (validated.includes('ema') ? ema : 0) : 0;
  const buffers = gradientBuffers(slots, totalSlots, 1);
  const arena = training.arenaBytes[LEVELS.indexOf(level)]!;
  const validation = validated.length > 0 ? forward.arenaBytes[0]! + inputBytes(spec) : 0;
  return present([
    { name: 'weights, fp32', bytes: 4 * length },
    { name: `weights, ${copies} x bf16`, bytes: 2 * length * copies },
    { name: `gradients, ${buffers} x fp32`, bytes: 4 * length * buffers },
    { name: 'optimizer, m and v', bytes: 8 * length },
    { name: 'EMA', bytes: 4 * length * ema },
    { name: 'activations', bytes: arena + inputBytes(spec) },
    { name: 'validation', bytes: validation },
    { name: 'workspace of the matmuls', bytes: WORKSPACE_BYTES },
  ]);
}

/**
 * Host memory of a worker with a GPU: copies of the state to load and save it, and of gradients to exchange.
 */
function hostMemoryOfGpuWorker({
  spec,
  training,
  slots,
  totalSlots,
  peers,
  saves,
  copied,
}: WorkerShape): MemoryPart[] {
  const states = 3 + (spec.ema ? 1 : 0);
  const parts = peers === 0 ? 0 : localSubtrees(slots.lo, slots.hi, totalSlots).length;
  return present([
    { name: 'copy of the state', bytes: 4 * training.length * copied },
    { name: 'copy for checkpoints', bytes: saves ? 4 * training.length * states : 0 },
    { name: `gradients, ${parts} x fp32`, bytes: 4 * training.length * parts },
    { name: 'positions', bytes: positionBytes(spec) },
    { name: 'inputs, 2 x', bytes: 2 * inputBytes(spec) },
    { name: "process, without CUDA's libraries", bytes: PROCESS_BYTES },
    { name: 'exchange', bytes: PEER_BYTES * peers },
  ]);
}

/** The parts of a worker's peak in the machine's memory at a level of activation checkpointing. */
export function workerMemory(worker: WorkerShape, level: Level): MemoryPart[] {
  if (worker.onGpu) return hostMemoryOfGpuWorker(worker);
  const { spec, training, forward, slots, totalSlots } = worker;
  const { length } = training;
  const ema = spec.ema ? 1 : 0;
  const bf16 = spec.precision === 'bf16';
  const ownCopies = (worker.holdsState ? 1 : 0) + (worker.validated.includes('ema') ? ema : 0);
  const copies = bf16 ? ownCopies : 0;
  const atOnce = Math.floor(spec.threads / spec.threadsPerSlot);
  const buffers = gradientBuffers(slots, totalSlots, atOnce);
  const lanes = Math.min(atOnce, slots.hi - slots.lo);
  const validating = worker.validated.length > 0 ? atOnce : 0;
  const arena = training.arenaBytes[LEVELS.indexOf(level)]!;
  const held = worker.holdsState ? length : 0;
  return present([
    { name: 'weights, fp32', bytes: 4 * held },
    { name: `weights, ${copies} x bf16`, bytes: 2 * length * copies },
    { name: `gradients, ${buffers} x fp32`, bytes: 4 * length * buffers },
    { name: 'optimizer, m and v', bytes: 8 * Math.max(0, held - worker.untouched) },
    { name: 'EMA', bytes: 4 * held * ema },
    { name: 'copy for checkpoints', bytes: worker.saves ? 4 * length * (3 + ema) : 0 },
    { name: 'positions', bytes: positionBytes(spec) },
    { name: `activations, ${lanes} x`, bytes: lanes * (arena + inputBytes(spec)) },
    {
      name: `validation, ${validating} x`,
      bytes: validating * (forward.arenaBytes[0]! + inputBytes(spec)),
    },
    { name: 'process', bytes: PROCESS_BYTES },
    { name: 'exchange', bytes: PEER_BYTES * worker.peers },
  ]);
}

/** The memory of all workers of a machine with the coordinator and the launcher. */
export function machineParts(workers: readonly (readonly MemoryPart[])[]): MemoryPart[] {
  const others = COORDINATION_BYTES - PROGRAM_BYTES * workers.length;
  return addUp([...workers.flat(), { name: 'process', bytes: others }]);
}

/** Bytes of the stored position table, and of its centre for the size of the latents. */
function positionBytes({ model, latentHeight, latentWidth }: EngineSpec): number {
  const grid = (latentHeight / model.patch) * (latentWidth / model.patch);
  return 4 * hiddenOf(model) * (model.posEmbedMaxSize * model.posEmbedMaxSize + grid);
}

/** Bytes of a slot's input: latent, noised latent and target in fp32, text in the type of the matmuls. */
function inputBytes({
  model,
  microBatch,
  latentHeight,
  latentWidth,
  contextTokens,
  precision,
}: EngineSpec): number {
  const text = contextTokens * model.contextDim + model.pooledDim;
  const width = precision === 'bf16' ? 2 : 4;
  return microBatch * (12 * model.latentChannels * latentHeight * latentWidth + width * text);
}

/**
 * The largest number of gradients that exist at once: those being computed, and sums in the tree that wait
 * for their sibling. Found by following the slots in order, `threads` at a time.
 */
export function gradientBuffers({ lo, hi }: Range, totalSlots: number, threads: number): number {
  const parts = localSubtrees(lo, hi, totalSlots);
  const isPart = (from: number, to: number) => parts.some((part) => part.lo === from && part.hi === to);
  const waiting = new Set<string>();
  let live = 0;
  let most = 0;
  const start = () => {
    live++;
    most = Math.max(most, live);
  };
  const finish = (slot: number) => {
    let size = 1;
    for (let from = slot; !isPart(from, Math.min(from + size, totalSlots)); size *= 2) {
      const left = Math.floor(from / (2 * size)) * 2 * size;
      const sibling = from === left ? from + size : left;
      if (sibling < totalSlots) {
        if (!waiting.delete(`${sibling} ${size}`)) {
          waiting.add(`${from} ${size}`);
          return;
        }
        live--;
      }
      from = left;
    }
  };
  for (let slot = lo; slot < Math.min(hi, lo + threads); slot++) start();
  for (let slot = lo; slot < hi; slot++) {
    finish(slot);
    if (slot + threads < hi) start();
  }
  return most;
}
