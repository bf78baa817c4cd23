/** The checkpoints that a simulated worker writes, or offers to the coordinator if it does not see the run folder. */
import type { State } from './witness.js';
import type { Worker } from './worker.js';
import type { World } from './world.js';

/** How many times the coordinator may begin to receive one state. */
const TRANSFERS = 3;

/** A copy of its state that it keeps for the coordinator. */
export interface Offer {
  state: State;
  number: number;
  /** Which transfer of the state it is for, counted from 1. */
  transfers: number;
  /** The coordinator has begun to get it. */
  isBegun: boolean;
  /** @param what Whether the coordinator got all of it, or did not want it. */
  end: (what: 'sent' | 'broken' | 'declined') => void;
}

export class Saver {
  /** Null: it offers nothing. */
  offer: Offer | null = null;
  readonly #world: World;
  readonly #worker: Worker;
  /** The step whose checkpoint it is writing; 0 = none. */
  #writing = 0;
  /** That was ordered again meanwhile. */
  #isAgain = false;
  /** How many states it has offered. */
  #offers = 0;

  constructor(world: World, worker: Worker) {
    this.#world = world;
    this.#worker = worker;
  }

  get isWriting(): boolean {
    return this.#writing !== 0;
  }

  /**
   * The writing goes on beside training, and through the end of the generation.
   *
   * @param goOn Called when the next update may begin.
   */
  save(step: number, goOn: () => void): void {
    if (this.#writing === step) {
      this.#isAgain = true;
      goOn();
      return;
    }
    // The checkpoint of the last step waits for the one before.
    if (this.#writing !== 0 && !this.#worker.sees) {
      this.#worker.during(20, () => this.save(step, goOn));
      return;
    }
    const state = this.#worker.held!;
    const { done, refused } = this.#world.disk.write();
    this.#writing = step;
    this.#isAgain = false;
    goOn();
    this.#worker.after(done, () => {
      if (!this.#worker.sees) this.#offer(state);
      else {
        this.#settled(step);
        if (refused) this.#refused(step);
        else
          this.#worker.say('saved', {
            step,
            folder: String(state.value),
            seconds: 1,
            stallSeconds: 0,
            bytes: 1,
          });
      }
    });
  }

  /** The coordinator gets a copy of the state, or another one, if that was ordered meanwhile. */
  #offer(state: State, transfers = 1): void {
    const { step } = state;
    const offer: Offer = {
      state,
      number: ++this.#offers,
      transfers,
      isBegun: false,
      end: (what) => {
        if (this.offer !== offer) return;
        this.offer = null;
        const isAgain = what !== 'sent' && this.#isAgain;
        this.#isAgain = false;
        if (isAgain) this.#offer(state);
        else if (what === 'broken' && transfers < TRANSFERS) this.#offer(state, transfers + 1);
        else {
          this.#settled(step);
          if (what === 'broken') this.#refused(step);
        }
      },
    };
    this.offer = offer;
    this.#worker.say('offered', { step, number: offer.number });
  }

  /** It tells the coordinator that it has joined now, which may be another one, or have forgotten it. */
  remind(): void {
    if (this.offer?.isBegun === false) {
      const { state, number } = this.offer;
      this.#worker.say('offered', { step: state.step, number });
    }
  }

  #settled(step: number): void {
    if (this.#writing === step) this.#writing = 0;
  }

  #refused(step: number): void {
    this.#worker.say('notSaved', {
      step,
      failure: { code: 'ERR_CHECKPOINT_WRITE', message: 'refused', hint: '' },
    });
  }

  declined(number: number): void {
    const { offer } = this;
    if (offer?.number === number && !offer.isBegun) offer.end('declined');
  }
}
