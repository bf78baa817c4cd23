/** A copy of the state that the coordinator gets and writes, because this worker does not see the run folder. */
import { status } from '@grpc/grpc-js';
import { OrchestratorError } from '../errors.js';
import type { ServedCall } from '../rpc/grpc-stream.js';

/** The coordinator begins within this time, or has died; the next one orders another copy. */
const BEGIN_MS = 60_000;

interface Offer {
  step: number;
  pieces: readonly Float32Array[];
  begin: () => void;
  end: () => void;
}

export class StateOffers {
  #offer: Offer | null = null;

  /**
   * Keeps the pieces until the coordinator has got them, or has given up.
   *
   * @param tell Tells it of the offer.
   * @throws OrchestratorError ERR_CHECKPOINT_WRITE if it does not ask for them.
   */
  async offer(step: number, pieces: readonly Float32Array[], tell: () => void): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const message = `The coordinator has not asked for the state after step ${step} within ${BEGIN_MS / 1000} s`;
        timer = setTimeout(() => reject(new OrchestratorError('ERR_CHECKPOINT_WRITE', message)), BEGIN_MS);
        this.#offer = { step, pieces, begin: () => clearTimeout(timer), end: resolve };
        tell();
      });
    } finally {
      clearTimeout(timer);
      this.#offer = null;
    }
  }

  /** Answers a request for what is offered. */
  async serve(step: number, call: ServedCall): Promise<void> {
    const offer = this.#offer;
    if (offer?.step !== step) {
      return call.end(status.FAILED_PRECONDITION, `the state after step ${step} is not offered`);
    }
    offer.begin();
    try {
      for (const { buffer, byteOffset, byteLength } of offer.pieces) {
        if (!call.open) return;
        await call.write(new Uint8Array(buffer, byteOffset, byteLength));
      }
      call.end();
      await call.over;
    } finally {
      offer.end();
    }
  }
}
