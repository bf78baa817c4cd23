/** A copy of the state that the coordinator gets and writes, because this worker does not see the run folder. */
import { status } from '@grpc/grpc-js';
import { OrchestratorError } from '../errors.js';
import type { ServedCall } from '../rpc/grpc-server.js';
import { timeSpan } from '../text/quantities.js';
import { afterSeconds } from './timer.js';

/** The least time that a coordinator gets, which may be stopped. One that is there soon begins, or declines. */
const LEAST_PATIENCE_SECONDS = 60;

interface Offer {
  step: number;
  number: number;
  pieces: Iterable<Float32Array>;
  /** Tells the coordinator of it. */
  tell: (number: number) => void;
  /** The coordinator has begun to get it. */
  isBegun: boolean;
  begin: () => void;
  declined: () => void;
  /** @param isSent Whether the coordinator got all pieces. */
  end: (isSent: boolean) => void;
}

/** The connection of the coordinator broke while it got the state, which may be offered again. */
export class TransferBroken extends OrchestratorError {}

export class StateOffers {
  #offer: Offer | null = null;
  /** How many there were: an answer to one does not count for the next of the same step. */
  #count = 0;

  /**
   * Keeps the pieces until all of them were sent to the coordinator, which writes them then.
   *
   * @param tell Tells it of the offer, and by which number it may be declined.
   * @param patienceSeconds How long the workers of the run wait for a coordinator.
   * @returns Whether it wanted them. Whatever it orders later, it does not know of this offer.
   * @throws OrchestratorError ERR_CHECKPOINT_WRITE if it does not ask for them; as TransferBroken if its connection
   *   breaks.
   */
  async offer(
    step: number,
    pieces: Iterable<Float32Array>,
    tell: Offer['tell'],
    patienceSeconds = LEAST_PATIENCE_SECONDS,
  ): Promise<boolean> {
    const seconds = Math.max(LEAST_PATIENCE_SECONDS, patienceSeconds);
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<boolean>((resolve, reject) => {
        const state = `The state after step ${step}`;
        const late = `${state} was not asked for by the coordinator within ${timeSpan(seconds)}`;
        timer = afterSeconds(seconds, () => reject(new OrchestratorError('ERR_CHECKPOINT_WRITE', late)));
        const begin = () => clearTimeout(timer);
        const broken = `${state} did not reach the coordinator: the transfer broke off`;
        const end = (isSent: boolean) =>
          isSent ? resolve(true) : reject(new TransferBroken('ERR_CHECKPOINT_WRITE', broken));
        const number = ++this.#count;
        const declined = () => resolve(false);
        this.#offer = { step, number, pieces, tell, isBegun: false, begin, declined, end };
        tell(number);
      });
    } finally {
      clearTimeout(timer);
      this.#offer = null;
    }
  }

  /** Tells the coordinator that is there now, which may be another one, or have forgotten it. */
  remind(): void {
    if (this.#offer?.isBegun === false) this.#offer.tell(this.#offer.number);
  }

  /** The coordinator does not want it. */
  decline(number: number): void {
    const offer = this.#offer;
    if (offer?.number === number && !offer.isBegun) offer.declined();
  }

  /** Answers a request for what is offered. */
  async serve(step: number, call: ServedCall): Promise<void> {
    const offer = this.#offer;
    if (offer?.step !== step) {
      return call.end(status.FAILED_PRECONDITION, `the state after step ${step} is not offered`);
    }
    offer.isBegun = true;
    offer.begin();
    await call.send(offer.pieces).catch(() => {});
    offer.end(await call.over);
  }
}
