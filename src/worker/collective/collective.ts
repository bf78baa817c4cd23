/** The all-reduce that sums the workers' gradients. */
import { OrchestratorError } from '../../errors.js';
import type { AccumulateOptions, Engine, GradientNorm } from '../../native/contract.js';
import { StatusError } from '../../rpc/grpc-client.js';

/** The exchange with a peer broke, or the peer cannot be reached. */
export class ExchangeBroken extends OrchestratorError {
  /** The peer's rank; null: it was reached, and has said that it cannot go on. */
  readonly rank: number | null;

  constructor(rank: number, message: string, cause: Error | null) {
    super('ERR_EXCHANGE', message, { cause });
    this.rank = cause instanceof StatusError ? null : rank;
  }
}

/** What an all-reduce needs of the engine. */
export type Gradients = Pick<Engine, 'gradientParts' | 'gradient' | 'reduce'>;

/** Sums gradients one step at a time: begin, the engine's accumulate, reduce. */
export interface Collective {
  /** Whether the workers have one copy of the state, which rank 0 writes. */
  readonly sharesState: boolean;
  /**
   * Called before the backward pass. Returns what the engine must call for each bucket whose local sums are
   * complete; null if nothing is sent before reduce().
   */
  begin(step: number): AccumulateOptions['onBucket'];
  /** Resolves when the engine's gradient is the sum over all workers. */
  reduce(): Promise<GradientNorm>;
  close(): void;
}

/** For one worker, and for shared memory or connected GPUs, where the engines do all of it. */
export function engineCollective(engine: Gradients, sharesState: boolean): Collective {
  return { sharesState, begin: () => null, reduce: () => engine.reduce(), close: () => {} };
}
