/** The peak memory of a worker, part by part. */
import { validatedWeights } from '../config/derived.js';
import { type Config, slotCount } from '../config/schema.js';
import { addUp, type MemoryPart, totalBytes } from '../memory/parts.js';
import type { EngineSpec, PlanFigures } from '../native/contract.js';
import { hiddenOf } from '../native/specs.js';
import { localSubtrees, type Range } from '../step/tree.js';

export const LEVELS = ['nothing', 'norms', 'mlp', 'block'] as const;
type Level = (typeof LEVELS)[number];

/** What the memory of a run's workers follows from. */
export interface RunShape {
  config: Config;
  spec: EngineSpec;
  /** Figures of the training engine, and of a forward-only engine of the same shape. */
  training: PlanFigures;
  forward: PlanFigures;
  /** Elements of frozen parameters. */
  frozen: number;
  /** The slots of every rank. */
  ranges: readonly Range[];
  /** Whether the workers have one state together, in shared memory, where they also exchange gradients. */
  shares: boolean;
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
export const COORDINATION_BYTES = 40 * 1024 ** 2;
/** Received slices and socket buffers per peer (20 to 35 MiB). */
const PEER_BYTES = 30 * 1024 ** 2;

/** Workspace of cuBLASLt (native/kernels/cuda/matmul.cc). */
const WORKSPACE_BYTES = 64 * 1024 ** 2;

interface WorkerMemory {
  /** Parts in the machine's memory. */
  host: MemoryPart[];
  /** Parts in the memory of the worker's GPU, without the driver's; null on the CPU. */
  gpu: MemoryPart[] | null;
}

/**
 * A worker's peak memory at a level of activation checkpointing. The arrays of the engine lie where it
 * computes. The process of a GPU has copies of the state, to load and save it, and of the gradients that it
 * exchanges. Rank 0 copies the state for checkpoints.
 *
 * @param need "least" leaves out what not every such run needs: a new run copies fewer arrays than a resumed
 *   one and never writes the moments of frozen parameters, gradients of GPUs may go over NCCL, and the
 *   buffers of the exchange are small and not known to the byte.
 */
export function workerMemory(
  run: RunShape,
  rank: number,
  level: Level,
  need: 'peak' | 'least',
): WorkerMemory {
  const { config, spec, training, forward, ranges, shares } = run;
  const least = need === 'least';
  const slots = ranges[rank]!;
  const totalSlots = slotCount(config);
  const onGpu = config.device === 'cuda';
  const { length, moments } = training;
  const ema = spec.ema ? 1 : 0;
  const state = 4 * length * (1 + moments.length + ema);
  const input = inputBytes(spec);
  const holdsState = rank === 0 || !shares;
  const held = holdsState ? length : 0;
  const untouched = least && !shares ? run.frozen : 0;
  const validated = validatedWeights(config);
  const bf16Copies = (holdsState ? 1 : 0) + (validated.includes('ema') ? ema : 0);
  const copies = spec.precision === 'bf16' ? bf16Copies : 0;
  const atOnce = onGpu ? 1 : Math.floor(spec.threads / spec.threadsPerSlot);
  const buffers = gradientBuffers(slots, totalSlots, atOnce);
  const lanes = Math.min(atOnce, slots.hi - slots.lo);
  const validating = validated.length > 0 ? atOnce : 0;
  const arena = training.arenaBytes[LEVELS.indexOf(level)]!;
  const unknown = least && !(onGpu && config.exchange === 'grpc');
  const peers = shares || unknown ? 0 : ranges.length - 1;
  const sums = onGpu && peers > 0 ? localSubtrees(slots.lo, slots.hi, totalSlots).length : 0;
  const memory: WorkerMemory = { host: [], gpu: onGpu ? [] : null };
  const addTo = (parts: MemoryPart[]) => (name: string, bytes: number) => {
    if (bytes > 0) parts.push({ name, bytes });
  };
  const host = addTo(memory.host);
  const engine = addTo(memory.gpu ?? memory.host);
  engine('weights, fp32', 4 * held);
  engine(`weights, ${copies} x bf16`, 2 * length * copies);
  engine(`gradients, ${buffers} x fp32`, 4 * length * buffers);
  engine(`optimizer, ${moments.join(' and ')}`, 4 * moments.length * Math.max(0, held - untouched));
  engine('EMA', 4 * held * ema);
  host('copy of the state', onGpu ? state - (least ? 4 * length * moments.length : 0) : 0);
  host('copy for checkpoints', rank === 0 ? state : 0);
  host(`gradients, ${sums} x fp32`, 4 * length * sums);
  host('positions', positionBytes(spec));
  host('inputs, 2 x', onGpu ? 2 * input : 0);
  engine(`activations, ${lanes} x`, lanes * (arena + input));
  engine(`validation, ${validating} x`, validating * (forward.arenaBytes[0]! + input));
  engine('workspace of the matmuls', onGpu ? WORKSPACE_BYTES : 0);
  engine('workspace of attention', onGpu ? attentionBytes(spec) : 0);
  host(onGpu ? "process, without CUDA's libraries" : 'process', PROCESS_BYTES);
  host('exchange', PEER_BYTES * peers);
  return memory;
}

/** A worker's part of a machine's memory: without the pages that all processes of the machine share. */
export function ownBytes({ host }: WorkerMemory): number {
  return totalBytes(host) - PROGRAM_BYTES;
}

/** The memory that all workers of a machine need together with the coordinator and the launcher. */
export function machineParts(workers: readonly WorkerMemory[]): MemoryPart[] {
  const others = COORDINATION_BYTES - PROGRAM_BYTES * workers.length;
  return addUp([...workers.flatMap(({ host }) => host), { name: 'process', bytes: others }]);
}

/** Bytes of the stored position table, and of its centre for the size of the latents. */
function positionBytes({ model, latentHeight, latentWidth }: EngineSpec): number {
  const grid = (latentHeight / model.patch) * (latentWidth / model.patch);
  return 4 * hiddenOf(model) * (model.posEmbedMaxSize * model.posEmbedMaxSize + grid);
}

/**
 * Bytes that cuDNN's backward pass of attention takes: the gradients of the logits and two copies of the output
 * in bf16. The own kernels, which serve in fp32, need less.
 */
function attentionBytes({ model, microBatch, precision, ...slot }: EngineSpec): number {
  if (precision !== 'bf16') return 0;
  const image = (slot.latentHeight / model.patch) * (slot.latentWidth / model.patch);
  const tokens = image + slot.contextTokens;
  return 2 * microBatch * tokens * (model.heads * tokens + 2 * hiddenOf(model));
}

/** Bytes of a micro-batch's input: latent, noised latent and target in fp32, text in the type of the matmuls. */
function inputBytes({ model, precision, ...slot }: EngineSpec): number {
  const latent = model.latentChannels * slot.latentHeight * slot.latentWidth;
  const text = slot.contextTokens * model.contextDim + model.pooledDim;
  return slot.microBatch * (12 * latent + (precision === 'bf16' ? 2 : 4) * text);
}

/**
 * The largest number of gradients that exist at once: those being computed, `threads` at a time in the order
 * of the slots, and the sums of the slots before them that wait for their siblings in the tree.
 */
export function gradientBuffers({ lo, hi }: Range, totalSlots: number, threads: number): number {
  let most = 0;
  for (let done = lo; done < hi; done++) {
    const waiting = localSubtrees(lo, done, totalSlots).length;
    most = Math.max(most, waiting + Math.min(threads, hi - done));
  }
  return most;
}
