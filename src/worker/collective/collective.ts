/** How the workers' gradients become one. */
import type { GradientPart } from '../../native/contract.js';

/** What the engine of this worker brings to a step. Asked for once a step, when the first bucket is announced. */
export interface LocalGradient {
  /** Local sums, ascending; see Engine.gradientParts. */
  parts: GradientPart[];
  /** By bucket, where the global sum is to be put: the memory of one of the parts. */
  sum: Float32Array[];
}

/** Sums the workers' gradients. One step at a time: begin, announce every bucket in order, finish. */
export interface Collective {
  begin(step: number, local: () => LocalGradient): void;
  /** The local sums of this bucket are complete; null where nothing travels. */
  readonly announce: ((bucket: number) => void) | null;
  /** Resolves when all that travels has come, with the bytes received: the engine can reduce. */
  finish(): Promise<{ bytes: number }>;
  close(): void;
}

/** A run of one worker, or of workers whose engines do it all in reduce(): shared memory, or connected devices. */
export class NoTransfer implements Collective {
  readonly announce = null;
  begin(): void {}
  finish(): Promise<{ bytes: number }> {
    return Promise.resolve({ bytes: 0 });
  }
  close(): void {}
}
