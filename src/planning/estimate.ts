/** Estimates a run without running it: parameters, memory, FLOPs and time. */
import { type Config, slotCount } from '../config/schema.js';
import { trainingEngine } from '../engine/spec.js';
import { type MemoryPart, totalBytes } from '../memory/parts.js';
import { frozenNames } from '../model/freeze.js';
import type { EngineSpec, NativeAddon } from '../native/contract.js';
import { hiddenOf } from '../native/specs.js';
import { assignSlots } from '../step/assignment.js';
import { type FoundShapes, shapesOf } from './data-shapes.js';
import { gpuMemory, LEVELS, type Level, machineParts, type WorkerShape, workerMemory } from './memory.js';

export interface Rates {
  /** FLOP/s that a worker reaches in matmuls and attention. */
  flops: number;
  /** Bytes/s that a worker reads and writes. */
  bandwidth: number;
}

interface LevelEstimate {
  level: Level;
  activationBytes: number;
  /** Memory of rank 0: the GPU's on a GPU, otherwise the machine's. */
  workerBytes: number;
  /** Executed FLOPs of a step of all workers, including recomputation. */
  executedFlops: number;
  /** Null without rates. */
  time: StepTime | null;
}

/** Seconds of a step for the worker with the most slots. */
interface StepTime {
  matmuls: number;
  memoryBound: number;
  update: number;
  total: number;
}

export interface Estimate {
  spec: EngineSpec;
  precision: string;
  shapes: FoundShapes;
  workers: number;
  parameters: number;
  /** Elements of the position table, which is stored but not trained. */
  positions: number;
  slots: number;
  /** Model FLOPs of a step: 3 x forward, no credit for recomputation. */
  flopsPerStep: number;
  flopsOfRun: number;
  level: Level;
  /** Memory of rank 0, which also writes the checkpoints. */
  memory: MemoryPart[];
  /** Memory of rank 0's GPU; null on the CPU. */
  gpuMemory: MemoryPart[] | null;
  /** Peak memory of every rank. */
  rankBytes: number[];
  /** The least memory of this machine that all ranks, the coordinator and the launcher need together. */
  machine: MemoryPart[];
  /** Memory of each rank's GPU; null on the CPU. */
  rankGpu: MemoryPart[][] | null;
  levels: LevelEstimate[];
}

/**
 * Estimates a run on `workers` workers.
 *
 * @param rates Rates of one worker; null = no times.
 * @throws OrchestratorError ERR_CONFIG: when shapes are missing or contradict each other.
 */
export async function estimate(
  addon: NativeAddon,
  config: Config,
  workers: number,
  rates: Rates | null,
): Promise<Estimate> {
  return estimateFor(addon, config, await shapesOf(config), workers, rates);
}

/** The same for given shapes. */
export function estimateFor(
  addon: NativeAddon,
  config: Config,
  shapes: FoundShapes,
  workers: number,
  rates: Rates | null,
): Estimate {
  const { spec, precision } = trainingEngine(config, shapes, addon.host(), workers);
  const training = addon.planFigures(spec);
  const slots = slotCount(config);
  const ranges = assignSlots(slots, workers);
  const onGpu = config.device === 'cuda';
  const shares = workers > 1 && config.exchange !== 'grpc' && !onGpu;
  const states = 3 + (spec.ema ? 1 : 0);
  const worker: WorkerShape = {
    spec,
    training,
    forward: addon.planFigures({ ...spec, training: false }),
    slots: ranges[0]!,
    totalSlots: slots,
    peers: shares ? 0 : workers - 1,
    holdsState: true,
    saves: true,
    onGpu,
    validated:
      config.validation.every > 0 && config.data.validation_rows > 0 ? config.validation.weights : [],
    untouched: 0,
    copied: states,
  };
  const { activation_checkpointing: level } = config;
  const ranks = ranges.map(
    (range, rank): WorkerShape => ({
      ...worker,
      slots: range,
      holdsState: rank === 0 || !shares,
      saves: rank === 0,
    }),
  );
  // The least that the run may need: a new run copies fewer arrays than a resumed one, gradients of GPUs may
  // go over NCCL, and the buffers of the exchange are small and not known to the byte.
  const least = {
    untouched: shares ? 0 : frozenElements(addon, spec, config.freeze),
    copied: states - 2,
    ...(onGpu && config.exchange === 'grpc' ? {} : { peers: 0 }),
  };
  const levels = LEVELS.map((level, i): LevelEstimate => {
    const parts = (onGpu ? gpuMemory : workerMemory)(worker, level);
    const executed = training.executedFlops[i]!;
    return {
      level,
      activationBytes: training.arenaBytes[i]!,
      workerBytes: totalBytes(parts),
      executedFlops: executed * slots,
      time:
        rates === null ? null : stepTime(worker, i, Math.ceil(slots / workers), shares ? workers : 1, rates),
    };
  });
  const flopsPerStep = training.flopsPerSlot * slots;
  return {
    spec,
    precision: `${precision.compute} (${precision.reason})`,
    shapes,
    workers,
    parameters: training.parameters,
    positions: spec.model.posEmbedMaxSize * spec.model.posEmbedMaxSize * hiddenOf(spec.model),
    slots,
    flopsPerStep,
    flopsOfRun: flopsPerStep * config.schedule.steps,
    level,
    memory: workerMemory(worker, level),
    gpuMemory: onGpu ? gpuMemory(worker, level) : null,
    rankBytes: ranks.map((rank) => totalBytes(workerMemory(rank, level))),
    machine: machineParts(ranks.map((rank) => workerMemory({ ...rank, ...least }, level))),
    rankGpu: onGpu ? ranks.map((rank) => gpuMemory(rank, level)) : null,
    levels,
  };
}

function frozenElements(addon: NativeAddon, { model }: EngineSpec, patterns: readonly string[]): number {
  if (patterns.length === 0) return 0;
  const { tensors } = addon.parameters(model);
  const names = tensors.map(({ name }) => name);
  const frozen = frozenNames(names, patterns);
  return tensors.reduce((sum, { name, length }) => sum + (frozen.has(name) ? length : 0), 0);
}

/**
 * Bytes that the update moves per parameter: gradient; weights, m, v and EMA read and written; the bf16 copy.
 */
export function updateBytes(spec: EngineSpec): number {
  return 4 + 8 * (3 + (spec.ema ? 1 : 0)) + (spec.precision === 'bf16' ? 2 : 0);
}

/**
 * The time of a step: matmuls at the given FLOP/s, everything else at the given bandwidth, without the
 * exchange of gradients.
 *
 * @param sharing Number of workers that share the update.
 */
function stepTime(
  { spec, training }: WorkerShape,
  level: number,
  slots: number,
  sharing: number,
  rates: Rates,
): StepTime {
  const matmuls = (slots * training.executedFlops[level]!) / rates.flops;
  // Adding a slot's gradient to another reads both and writes one.
  const sums = (slots - 1) * 12 * training.length;
  const memoryBound = (slots * training.memoryBoundBytes[level]! + sums) / rates.bandwidth;
  const update = (updateBytes(spec) * training.length) / sharing / rates.bandwidth;
  return { matmuls, memoryBound, update, total: matmuls + memoryBound + update };
}
