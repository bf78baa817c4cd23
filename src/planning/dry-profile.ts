/** The operations of a training step and what they have to compute and to move, without running any. */
import type { Config } from '../config/schema.js';
import type { NativeAddon, PlannedOperation } from '../native/contract.js';
import { type Estimate, estimate, type Rates, updateBytes } from './estimate.js';

export interface DryOp extends PlannedOperation {
  /** The least time that the rates allow; null where none were given. */
  seconds: number | null;
  bound: 'matmul' | 'memory' | null;
}

export interface DryProfile extends Pick<Estimate, 'spec' | 'precision' | 'level' | 'memory' | 'gpuMemory'> {
  rates: Rates | null;
  slots: number;
  /** Operations of one slot, forward and backward: in the order of the graph, or slowest first where there are rates. */
  ops: DryOp[];
  /** What a step of one worker is made of; the first part is its slots. */
  step: DryOp[];
  /** Model FLOPs of a slot: 3 x forward, no credit for recomputation. */
  modelFlops: number;
}

/**
 * Needs no GPU, no data set where the configuration has its shapes, and nothing of this processor.
 *
 * @param rates of a worker on the machine in question; null = no times.
 * @throws OrchestratorError ERR_CONFIG: when shapes are missing or contradict each other.
 */
export async function dryProfile(
  addon: NativeAddon,
  config: Config,
  rates: Rates | null,
): Promise<DryProfile> {
  const figures = await estimate(addon, config, 1, null);
  const { spec, precision, level, memory, gpuMemory, slots, flopsPerStep } = figures;
  const ops = addon.planOperations(spec).map((op) => timed(op, rates));
  const { length } = addon.planFigures(spec);
  const slotsOfStep: DryOp = {
    name: 'slots, forward and backward',
    count: slots,
    flops: slots * total(ops, 'flops'),
    bytes: slots * total(ops, 'bytes'),
    seconds: rates === null ? null : slots * total(ops, 'seconds'),
    bound: null,
  };
  const sums = { name: 'sums of gradients', count: slots - 1, flops: 0, bytes: 12 * length * (slots - 1) };
  const update = { name: 'update', count: 1, flops: 0, bytes: updateBytes(spec) * length };
  return {
    spec,
    precision,
    level,
    memory,
    gpuMemory,
    rates,
    slots,
    ops: rates === null ? ops : ops.sort((a, b) => (b.seconds ?? 0) - (a.seconds ?? 0)),
    step: [slotsOfStep, ...[sums, update].filter(({ count }) => count > 0).map((op) => timed(op, rates))],
    modelFlops: flopsPerStep / slots,
  };
}

function timed(op: PlannedOperation, rates: Rates | null): DryOp {
  if (rates === null) return { ...op, seconds: null, bound: null };
  const matmul = op.flops / rates.flops;
  const memory = op.bytes / rates.bandwidth;
  return { ...op, seconds: Math.max(matmul, memory), bound: matmul > memory ? 'matmul' : 'memory' };
}

export function total(ops: readonly DryOp[], key: 'flops' | 'bytes' | 'seconds'): number {
  return ops.reduce((sum, op) => sum + (op[key] ?? 0), 0);
}
