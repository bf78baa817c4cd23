/** Estimates a run without running it: parameters, memory, FLOPs and time. */
import { wantedExchange } from '../config/derived.js';
import { type Config, slotCount } from '../config/schema.js';
import { trainingEngine } from '../engine/spec.js';
import { type MemoryPart, totalBytes } from '../memory/parts.js';
import { frozenNames } from '../model/freeze.js';
import type { EngineSpec, NativeAddon } from '../native/contract.js';
import { hiddenOf } from '../native/specs.js';
import { assignSlots } from '../step/assignment.js';
import { type FoundShapes, shapesOf } from './data-shapes.js';
import { LEVELS, type Level, machineParts, ownBytes, type RunShape, workerMemory } from './memory.js';

export interface Rates {
  /** FLOP/s that a worker reaches in matmuls and attention. */
  flops: number;
  /** Bytes/s that a worker reads and writes. */
  bandwidth: number;
}

export type Bound = 'matmul' | 'memory';

/** The least seconds that the rates allow for an operation, and by what it is bound. */
export function leastTime(
  { flops, bytes }: { flops: number; bytes: number },
  rates: Rates,
): { seconds: number; bound: Bound } {
  const [matmul, memory] = [flops / rates.flops, bytes / rates.bandwidth];
  return { seconds: Math.max(matmul, memory), bound: matmul > memory ? 'matmul' : 'memory' };
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
  /** Peak memory of every rank's process. */
  rankBytes: number[];
  /** The least memory of this machine that each rank needs for itself. */
  rankLeast: number[];
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
  const forward = addon.planFigures({ ...spec, training: false });
  const slots = slotCount(config);
  const ranges = assignSlots(slots, workers);
  const onGpu = config.device === 'cuda';
  const shares = wantedExchange(config, workers) === 'shared';
  const frozen = frozenElements(addon, spec, config.freeze);
  const run: RunShape = { config, spec, training, forward, frozen, ranges, shares };
  const { activation_checkpointing: level } = config;
  const peaks = ranges.map((_, rank) => workerMemory(run, rank, level, 'peak'));
  const leasts = ranges.map((_, rank) => workerMemory(run, rank, level, 'least'));
  const levels = LEVELS.map((level, i): LevelEstimate => {
    const { host, gpu } = workerMemory(run, 0, level, 'peak');
    return {
      level,
      activationBytes: training.arenaBytes[i]!,
      workerBytes: totalBytes(gpu ?? host),
      executedFlops: training.executedFlops[i]! * slots,
      time: rates && stepTime(run, i, rates),
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
    memory: peaks[0]!.host,
    gpuMemory: peaks[0]!.gpu,
    rankBytes: peaks.map(({ host }) => totalBytes(host)),
    rankLeast: leasts.map(ownBytes),
    machine: machineParts(leasts),
    rankGpu: onGpu ? peaks.map(({ gpu }) => gpu!) : null,
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
 */
function stepTime(
  { config, spec, training, ranges, shares }: RunShape,
  level: number,
  rates: Rates,
): StepTime {
  const slots = Math.ceil(slotCount(config) / ranges.length);
  const matmuls = (slots * training.executedFlops[level]!) / rates.flops;
  // Adding a slot's gradient to another reads both and writes one.
  const sums = (slots - 1) * 12 * training.length;
  const memoryBound = (slots * training.memoryBoundBytes[level]! + sums) / rates.bandwidth;
  // Workers that share a state share its update.
  const updated = training.length / (shares ? ranges.length : 1);
  const update = (updateBytes(spec) * updated) / rates.bandwidth;
  return { matmuls, memoryBound, update, total: matmuls + memoryBound + update };
}
