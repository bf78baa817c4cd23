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
  const { spec, precision, level, memory, gpuMemory, slots, flopsPerStep } = figures;
  const timed = (op: PlannedOperation): DryOp => ({
    ...op,
    ...(rates === null ? { seconds: null, bound: null } : leastTime(op, rates)),
  });
  const ops = addon.planOperations(spec).map(timed);
  const plan = addon.planFigures(spec);
  const { length } = plan;
  const slotsOfStep: DryOp = {
    name: 'slots, forward and backward',
    count: slots,
    flops: slots * total(ops, 'flops'),
    bytes: slots * total(ops, 'bytes'),
    seconds: rates === null ? null : slots * total(ops, 'seconds'),
    bound: null,
  };
  const sums = { name: 'sums of gradients', count: slots - 1, flops: 0, bytes: 12 * length * (slots - 1) };
  const update = { name: 'update', count: 1, flops: 0, bytes: updateBytes(spec, plan) * length };
  return {
    ...{ spec, precision, level, memory, gpuMemory, rates, slots },
    /** Operations of one slot, forward and backward: slowest first with rates, otherwise in graph order. */
    ops: rates === null ? ops : ops.sort((a, b) => b.seconds! - a.seconds!),
    /** The parts of a step of one worker; the first is its slots. */
    step: [slotsOfStep, ...[sums, update].filter(({ count }) => count > 0).map(timed)],
    /** Model FLOPs of a slot: 3 x forward, no credit for recomputation. */
    modelFlops: flopsPerStep / slots,
  };
}

export function total(ops: readonly DryOp[], key: 'flops' | 'bytes' | 'seconds'): number {
  return ops.reduce((sum, op) => sum + (op[key] ?? 0), 0);
}
