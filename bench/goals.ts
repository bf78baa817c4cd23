/** Goals of the benches. A missed goal is printed, and is not an error. */
import type { EngineSpec } from '../src/native/contract.js';
import type { BenchShape } from './shapes.js';

export interface StepGoal {
  /** Share of the matmul peak. */
  ofPeak: number;
  /** Factor over the better of PyTorch's modes. */
  factor: number;
}

const STEPS: Record<string, Record<BenchShape['size'], StepGoal>> = {
  avx2: { smallest: { ofPeak: 0.75, factor: 1.35 }, larger: { ofPeak: 0.8, factor: 1.15 } },
  avx512: { smallest: { ofPeak: 0.75, factor: 1.15 }, larger: { ofPeak: 0.75, factor: 1.15 } },
  avx512bf16: { smallest: { ofPeak: 0.614, factor: 1.5 }, larger: { ofPeak: 0.75, factor: 1.5 } },
};

/** Whole runs on two nodes of one thread, against one node of two. */
export const NODES_SHARE = 0.97;

/** One sample on two threads that share its slot, against one thread, in fp32. */
export const TWO_THREADS = 1.8;

/** A scrape of /metrics at 64 workers and 38 blocks. */
export const SCRAPE = { milliseconds: 20, bytes: 200_000 };

/** The coordinator of 1,000 workers: its share of a core, and how late its event loop is, at p99. */
export const SESSIONS = { share: 0.1, milliseconds: 20 };

/**
 * Seconds of the start of a run: by how much it may be longer than the processor time of its processes, and for how long
 * none of them may have anything to compute, which other work on the machine does not lengthen.
 */
export const START = { overProcessorTime: 1, nothingToCompute: 1 };

/** Seconds until the end of a worker is noticed, and the next step committed; and for which a joiner stalls the others. */
export const RECOVERY = { noticed: 0.1, committed: 2, stalled: 1 };

/** How much slower than another build a shape may be. */
export const SLOWER = 0.01;

/** The goal of a shape; null for bf16 without instructions for it, and for other instruction sets. */
export function stepGoal(
  isa: string,
  precision: EngineSpec['precision'],
  shape: BenchShape,
): StepGoal | null {
  const fastBf16 = isa === 'avx512bf16';
  if (precision === 'bf16' && !fastBf16) return null;
  return STEPS[precision === 'fp32' && fastBf16 ? 'avx512' : isa]?.[shape.size] ?? null;
}

/** Opening and converting data sets. */
export const DATA = { openSeconds: 2, convertRate: 50 };
