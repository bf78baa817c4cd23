/** A copy of the state that the coordinator gets and writes, because this worker does not see the run folder. */
import { status } from '@grpc/grpc-js';
import { OrchestratorError } from '../errors.js';
import type { ServedCall } from '../rpc/grpc-stream.js';

/** The coordinator begins within this time, or has died; the next one orders another copy. */
const BEGIN_MS = 60_000;

interface Offer {
  step: number;
  pieces: Iterable<Float32Array>;
  begin: () => void;
  /** @param isSent Whether the coordinator got all pieces. */
  end: (isSent: boolean) => void;
}

export class StateOffers {
  #offer: Offer | null = null;

  /**
   * Keeps the pieces until all of them were sent to the coordinator, which writes them then.
   *
   * @param tell Tells it of the offer.
   * @throws OrchestratorError ERR_CHECKPOINT_WRITE if it does not ask for them, or its connection breaks.
   */
  async offer(step: number, pieces: Iterable<Float32Array>, tell: () => void): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const fail = (why: string) =>
          reject(new OrchestratorError('ERR_CHECKPOINT_WRITE', `The state after step ${step} ${why}`));
        const late = `was not asked for by the coordinator within ${BEGIN_MS / 1000} s`;
        timer = setTimeout(() => fail(late), BEGIN_MS);
        const end = (isSent: boolean) =>
          isSent ? resolve() : fail('did not reach the coordinator: the transfer broke off');
        this.#offer = { step, pieces, begin: () => clearTimeout(timer), end };
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
    await call.send(offer.pieces).catch(() => {});
    offer.end(await call.over);
  }
}
