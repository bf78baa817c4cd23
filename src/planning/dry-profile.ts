/** The operations of a training step with their FLOPs and bytes, without running any. */
import type { Config } from '../config/schema.js';
import type { NativeAddon, PlannedOperation } from '../native/contract.js';
import { type Bound, estimate, leastTime, type Rates, updateBytes } from './estimate.js';

/** An operation with the least time that the rates allow and what bounds it; null without rates. */
export interface DryOp extends PlannedOperation {
  seconds: number | null;
  bound: Bound | null;
}

export type DryProfile = Awaited<ReturnType<typeof dryProfile>>;

/**
 * Profiles a configuration without running it. It needs no GPU and, if the configuration has the shapes, no
 * data set; the result does not depend on this processor.
 *
 * @param rates Rates of a worker on the machine in question; null = no times.
 */
export async function dryProfile(addon: NativeAddon, config: Config, rates: Rates | null) {
  const figures = await estimate(addon, config, 1, null);
  const { spec, precision, level, memory, gpuMemory, slots, accumulate, flopsPerStep } = figures;
  const microBatches = slots * accumulate;
  const timed = (op: PlannedOperation): DryOp => ({
    ...op,
    ...(rates === null ? { seconds: null, bound: null } : leastTime(op, rates)),
  });
  const ops = addon.planOperations(spec).map(timed);
  const plan = addon.planFigures(spec);
  const { length } = plan;
  const passes: DryOp = {
    name: 'micro-batches, forward and backward',
    count: microBatches,
    flops: microBatches * total(ops, 'flops'),
    bytes: microBatches * total(ops, 'bytes'),
    seconds: rates === null ? null : microBatches * total(ops, 'seconds'),
    bound: null,
  };
  const sums = { name: 'sums of gradients', count: slots - 1, flops: 0, bytes: 12 * length * (slots - 1) };
  const update = { name: 'update', count: 1, flops: 0, bytes: updateBytes(spec, plan) * length };
  return {
    ...{ spec, precision, level, memory, gpuMemory, rates, slots, accumulate },
    /** Operations of one micro-batch, forward and backward: slowest first with rates, otherwise in graph order. */
    ops: rates === null ? ops : ops.sort((a, b) => b.seconds! - a.seconds!),
    /** The parts of a step of one worker; the first is its micro-batches. */
    step: [passes, ...[sums, update].filter(({ count }) => count > 0).map(timed)],
    /** Model FLOPs of a micro-batch: 3 x forward, no credit for recomputation. */
    modelFlops: flopsPerStep / microBatches,
  };
}

export function total(ops: readonly DryOp[], key: 'flops' | 'bytes' | 'seconds'): number {
  return ops.reduce((sum, op) => sum + (op[key] ?? 0), 0);
}
