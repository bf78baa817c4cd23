/** How the workers' gradients become one. */
import type { GradientPart } from '../../native/contract.js';

/** What the engine of this worker brings to a step. Asked for once a step, when the first bucket is announced. */
export interface LocalGradient {
  /** Local sums, ascending; see Engine.gradientParts. */
  parts: GradientPart[];
  /** Where the global sum is to be put: the memory of one of the parts. */
  sum: Float32Array;
}

/** Sums the workers' gradients. One step at a time: begin, announce every bucket in order, finish. */
export interface Collective {
  begin(step: number, local: () => LocalGradient): void;
  /** The local sums of this bucket are complete. */
  announce(bucket: number): void;
  /** Resolves when the global sum is complete in the memory of `sum`, with the bytes received. */
  finish(): Promise<{ bytes: number }>;
  close(): void;
}

/** A run of one worker: its local sum is the global one. */
export class Alone implements Collective {
  begin(): void {}
  announce(): void {}
  finish(): Promise<{ bytes: number }> {
    return Promise.resolve({ bytes: 0 });
  }
  close(): void {}
}
