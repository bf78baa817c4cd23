/** Estimates a run without running it: parameters, memory, FLOPs and time. */
import { wantedExchange } from '../config/derived.js';
import { type Config, slotCount } from '../config/schema.js';
import { describePrecision } from '../engine/precision.js';
import { trainingEngine } from '../engine/spec.js';
import { totalBytes } from '../memory/parts.js';
import { frozenNames } from '../model/freeze.js';
import type { EngineSpec, NativeAddon, PlanFigures, PlannedOperation } from '../native/contract.js';
import { hostOf } from '../native/host.js';
import { hiddenOf } from '../native/specs.js';
import { assignSlots } from '../step/assignment.js';
import { type FoundShapes, shapesOf } from './data-shapes.js';
import { LEVELS, machineParts, ownBytes, type RunShape, workerMemory } from './memory.js';

export interface Rates {
  /** FLOP/s that a worker reaches in matmuls and attention. */
  flops: number;
  /** Bytes/s that a worker reads and writes. */
  bandwidth: number;
}

export type Bound = 'matmul' | 'memory';

/** The least seconds that the rates allow for an operation, and by what it is bound. */
export function leastTime({ flops, bytes }: Pick<PlannedOperation, 'flops' | 'bytes'>, rates: Rates) {
  const [matmul, memory] = [flops / rates.flops, bytes / rates.bandwidth];
  const bound: Bound = matmul > memory ? 'matmul' : 'memory';
  return { seconds: Math.max(matmul, memory), bound };
}

export type Estimate = ReturnType<typeof estimateFor>;

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

/** Where the workers of a run are. */
export interface Spread {
  /** The most that share a machine. */
  together: number;
  /** Those on this machine. */
  here: number;
}

/**
 * The same for given shapes.
 *
 * @param spread Where the workers are; by default all are on this machine.
 */
export function estimateFor(
  addon: NativeAddon,
  config: Config,
  shapes: FoundShapes,
  workers: number,
  rates: Rates | null,
  { together, here }: Spread = { together: workers, here: workers },
) {
  const { spec, precision } = trainingEngine(config, shapes, hostOf(addon), workers, null, together);
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
  const flopsPerStep = training.flops * slots * config.batch.accumulate;
  const positions = spec.model.posEmbedMaxSize * spec.model.posEmbedMaxSize * hiddenOf(spec.model);
  const weights = config.ema === null ? 1 : 2;
  return {
    spec,
    precision: describePrecision(precision),
    shapes,
    workers,
    parameters: training.parameters,
    /** Bytes of one checkpoint; the weights and the EMA are stored with the position table. */
    checkpointBytes:
      4 * (weights * (training.parameters + positions) + training.moments.length * training.parameters),
    /** Elements of the position table, which is stored but not trained. */
    positions,
    slots,
    /** Micro-batches of a slot. */
    accumulate: config.batch.accumulate,
    /** Model FLOPs of a step: 3 x forward, no credit for recomputation. */
    flopsPerStep,
    flopsOfRun: flopsPerStep * config.schedule.steps,
    level,
    /** Memory of rank 0, which also writes the checkpoints. */
    memory: peaks[0]!.host,
    /** Memory of rank 0's GPU; null on the CPU. */
    gpuMemory: peaks[0]!.gpu,
    /** Peak memory of every rank's process. */
    rankBytes: peaks.map(({ host }) => totalBytes(host)),
    /** The least memory of this machine that each rank needs for itself. */
    rankLeast: leasts.map(ownBytes),
    /** The least memory of this machine that its ranks, the coordinator and the launcher need together. */
    machine: machineParts(leasts.slice(0, here)),
    /** Memory of each rank's GPU; null on the CPU. */
    rankGpu: onGpu ? peaks.map(({ gpu }) => gpu!) : null,
    levels: LEVELS.map((level, i) => {
      const { host, gpu } = workerMemory(run, 0, level, 'peak');
      return {
        level,
        activationBytes: training.arenaBytes[i]!,
        /** Memory of rank 0: the GPU's on a GPU, otherwise the machine's. */
        workerBytes: totalBytes(gpu ?? host),
        /** Executed FLOPs of a step of all workers, including recomputation. */
        executedFlops: training.executedFlops[i]! * slots * config.batch.accumulate,
        /** Null without rates. */
        time: rates && stepTime(run, i, rates),
      };
    }),
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
 * Bytes that the update moves per parameter: gradient; weights, moments and EMA read and written; the bf16
 * copy.
 */
export function updateBytes({ ema, precision }: EngineSpec, { moments }: PlanFigures): number {
  return 4 + 8 * (1 + moments.length + (ema ? 1 : 0)) + (precision === 'bf16' ? 2 : 0);
}

/**
 * Seconds of a step for the worker with the most slots: matmuls at the given FLOP/s, everything else at the
 * given bandwidth, without the exchange of gradients.
 */
function stepTime({ config, spec, training, ranges, shares }: RunShape, level: number, rates: Rates) {
  const slots = Math.ceil(slotCount(config) / ranges.length);
  const microBatches = slots * config.batch.accumulate;
  const matmuls = (microBatches * training.executedFlops[level]!) / rates.flops;
  // Adding a slot's gradient to another reads both and writes one.
  const sums = (slots - 1) * 12 * training.length;
  const memoryBound = (microBatches * training.memoryBoundBytes[level]! + sums) / rates.bandwidth;
  // Workers that share a state share its update.
  const updated = training.length / (shares ? ranges.length : 1);
  const update = (updateBytes(spec, training) * updated) / rates.bandwidth;
  return { matmuls, memoryBound, update, total: matmuls + memoryBound + update };
}
