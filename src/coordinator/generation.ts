/** One formation of a run: who computes which slots, what they have answered, and how far they are. */
import type { ErrorCode } from '../errors.js';
import type { Fault } from '../fault.js';
import type { DeviceRendezvous, Prepared, Ready, Validated } from '../rpc/proto.js';
import { assignSlots } from '../step/assignment.js';
import type { Member, Phase, Place } from './events.js';
import type { Answer } from './judge.js';
import { nameOf } from './members.js';
import type { Orders } from './orders.js';

const FORM_MS = 90_000;
const PREPARE_STATE_MS = 1_800_000;
/** Time limit of the first step and of those after a validation. */
const SLOW_STEP_MS = 1_800_000;
/** Time limit of the other steps: at least this, or this multiple of the longest step so far. */
const STEP_MS = 120_000;
const STEP_MULTIPLE = 30;

/** The phases of a run in which there is a generation. */
type Stage = Extract<Phase, 'FORMING' | 'SYNCING' | 'RUNNING' | 'CHECKPOINTING'>;

/** The answers of all members of a generation to one question. */
class Answers<T> {
  readonly #places: readonly Place[];
  readonly #answers = new Map<string, T>();

  constructor(places: readonly Place[]) {
    this.#places = places;
  }

  /** Those that have not answered. */
  get missing(): Place[] {
    return this.#places.filter(({ id }) => !this.#answers.has(id));
  }

  has(id: string): boolean {
    return this.#answers.has(id);
  }

  /** Keeps an answer. Returns all in the order of ranks once every member has answered, until then null. */
  add(id: string, answer: T): T[] | null {
    this.#answers.set(id, answer);
    return this.missing.length > 0 ? null : this.#places.map(({ id }) => this.#answers.get(id)!);
  }

  /** A member whose answer is another than this; null: there is none. */
  dissenter(answer: T): Place | null {
    return this.#places.find(({ id }) => this.has(id) && this.#answers.get(id) !== answer) ?? null;
  }
}

export class Generation {
  readonly number: number;
  /** By rank. */
  readonly places: readonly Place[];
  readonly formed: Answers<DeviceRendezvous | null>;
  readonly ready: Answers<Ready>;
  readonly finished: Answers<true>;
  /** The answers to the step that is being computed, and to the orders of the step before. */
  prepared: Answers<Prepared>;
  applied: Answers<string>;
  validated: Answers<Validated>;
  #stage: Stage = 'FORMING';
  #step = 0;
  /** When the stage or the step began. */
  #since: number;
  #longestStep = 0;
  #slowStep = true;

  constructor(number: number, members: readonly Member[], totalSlots: number, now: number) {
    const slots = assignSlots(totalSlots, members.length);
    this.number = number;
    this.places = members.map((member, rank) => {
      const { lo, hi } = slots[rank]!;
      return { ...member, rank, firstSlot: lo, endSlot: hi };
    });
    this.formed = new Answers(this.places);
    this.ready = new Answers(this.places);
    this.finished = new Answers(this.places);
    this.prepared = new Answers(this.places);
    this.applied = new Answers(this.places);
    this.validated = new Answers(this.places);
    this.#since = now;
  }

  get stage(): Stage {
    return this.#stage;
  }

  /** The step that is being computed, or was computed last; 0 before the first. */
  get step(): number {
    return this.#step;
  }

  place(id: string): Place | null {
    return this.places.find((place) => place.id === id) ?? null;
  }

  named<T>(answers: readonly T[]): Answer<T>[] {
    return this.places.map((place, rank) => ({ name: nameOf(place), answer: answers[rank]! }));
  }

  /** All have reached their peers. */
  sync(now: number): void {
    this.#enter('SYNCING', now);
  }

  /** All hold the same state; they compute this step next. */
  start(step: number, now: number): void {
    this.#enter('RUNNING', now);
    this.#step = step;
  }

  /** The step is committed. The members follow the orders, and then compute the next one unless they stop. */
  commit(orders: Orders, now: number): void {
    this.#longestStep = Math.max(this.#longestStep, this.#slowStep ? 0 : now - this.#since);
    this.#slowStep = orders.validate;
    this.prepared = new Answers(this.places);
    this.applied = new Answers(this.places);
    this.validated = new Answers(this.places);
    this.#enter(orders.stop ? 'CHECKPOINTING' : 'RUNNING', now);
    if (!orders.stop) this.#step++;
  }

  /** The last checkpoint is being written. */
  writing(now: number): void {
    if (this.#stage === 'CHECKPOINTING') this.#since = now;
  }

  /** This process was paused for a time, which does not count. */
  paused(ms: number): void {
    this.#since += ms;
  }

  /** Why the stage or the step has taken too long; null if it has not. */
  overdue(now: number): Fault | null {
    const waited = now - this.#since;
    const limit = (ms: number, code: ErrorCode, message: () => string) =>
      waited > ms ? { code, message: message(), hint: null } : null;
    const missing = ({ missing }: Answers<unknown>) => missing.map(nameOf).join(', ');
    switch (this.#stage) {
      case 'FORMING':
        return limit(
          FORM_MS,
          'ERR_JOIN_TIMEOUT',
          () => `These workers could not connect to their peers in time: ${missing(this.formed)}`,
        );
      case 'SYNCING':
        return limit(
          PREPARE_STATE_MS,
          'ERR_JOIN_TIMEOUT',
          () => `These workers were not ready in time: ${missing(this.ready)}`,
        );
      case 'RUNNING': {
        const ms = this.#slowStep ? SLOW_STEP_MS : Math.max(STEP_MS, STEP_MULTIPLE * this.#longestStep);
        const seconds = (waited / 1000).toFixed(0);
        return limit(
          ms,
          'ERR_PROGRESS',
          () => `Step ${this.#step} is still waiting for ${missing(this.prepared)} after ${seconds} s`,
        );
      }
      case 'CHECKPOINTING': {
        const who = missing(this.finished);
        return limit(SLOW_STEP_MS, 'ERR_PROGRESS', () =>
          who
            ? `These workers did not finish after the last step: ${who}`
            : 'The last checkpoint is still not published',
        );
      }
    }
  }

  #enter(stage: Stage, now: number): void {
    this.#stage = stage;
    this.#since = now;
  }
}
