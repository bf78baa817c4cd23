/** The interface of the all-reduce that sums the workers' gradients. */
import type { GradientPart } from '../../native/contract.js';

/** This worker's gradients of a step, requested once per step, when the first bucket is announced. */
export interface LocalGradient {
  /** Local sums, ascending; see Engine.gradientParts. */
  parts: GradientPart[];
  /** By bucket, the destination of the global sum: the memory of one of the parts. */
  sum: Float32Array[];
}

/** Sums the workers' gradients, one step at a time: begin, announce every bucket in order, finish. */
export interface Collective {
  begin(step: number, local: () => LocalGradient): void;
  /** The local sums of this bucket are complete. Null if nothing is transferred here. */
  readonly announce: ((bucket: number) => void) | null;
  /** Resolves with the bytes received when the transfer is complete, so that the engine can reduce. */
  finish(): Promise<{ bytes: number }>;
  close(): void;
}

/** For one worker, and for shared memory or connected GPUs, where the engine does all in reduce(). */
export class NoTransfer implements Collective {
  readonly announce = null;
  begin(): void {}
  finish(): Promise<{ bytes: number }> {
    return Promise.resolve({ bytes: 0 });
  }
  close(): void {}
}
