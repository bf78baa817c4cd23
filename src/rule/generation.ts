/** One formation of a run: who computes which slots, what they have answered, and how far they are. */
import type { ErrorCode } from '../errors.js';
import type { Fault } from '../fault.js';
import type { Formed, FromCoordinator, Orders, Prepared, Ready, Validated } from '../rpc/proto.js';
import { assignSlots } from '../step/assignment.js';
import { Answers } from './answers.js';
import type { Action, Member, Phase, Place } from './events.js';
import type { Answer } from './judge.js';
import { nameOf } from './members.js';
import { Suspicions } from './suspicions.js';

const FORM_MS = 90_000;
/** The same where workers may have to finish what they compute for the generation before: a slow step. */
const REFORM_MS = 1_800_000;
const PREPARE_STATE_MS = 1_800_000;
/** Time limit of the first step and of those after a validation. */
const SLOW_STEP_MS = 1_800_000;
/** Time limit of the other steps: at least this, or this multiple of the longest step so far. */
const STEP_MS = 120_000;
const STEP_MULTIPLE = 30;

/** The stages in their order. */
const STAGES = ['FORMING', 'SYNCING', 'RUNNING', 'CHECKPOINTING'] as const satisfies readonly Phase[];
type Stage = (typeof STAGES)[number];

/** A stage or a step that has taken too long. */
interface Overdue {
  /** The members that are waited for; empty if it is none of them. */
  late: readonly Place[];
  /** Why each of them is left out. */
  reason: string;
  /** Why the run ends if nobody would be left. */
  fault: Fault;
}

export class Generation {
  readonly number: number;
  /** By rank. */
  readonly places: readonly Place[];
  readonly formed: Answers<Formed>;
  readonly ready: Answers<Ready>;
  readonly finished: Answers<true>;
  /** The answers to the step that is being computed. */
  prepared: Answers<Prepared>;
  /** The answers to orders, by step, until they are complete. */
  readonly applied = new Map<number, Answers<string>>();
  readonly validated = new Map<number, Answers<Validated>>();
  readonly suspicions = new Suspicions();
  readonly #byId: ReadonlyMap<string, Place>;
  readonly #follows: boolean;
  #from: number | null = null;
  #stage: Stage = 'FORMING';
  #step = 0;
  /** When the stage or the step began. */
  #since: number;
  #longestStep = 0;
  #slowStep = true;

  /** @param follows Whether there was a generation before. */
  constructor(number: number, members: readonly Member[], totalSlots: number, follows: boolean, now: number) {
    const slots = assignSlots(totalSlots, members.length);
    this.number = number;
    this.#follows = follows;
    this.places = members.map((member, rank) => {
      const { lo, hi } = slots[rank]!;
      return { ...member, rank, firstSlot: lo, endSlot: hi };
    });
    this.#byId = new Map(this.places.map((place) => [place.id, place]));
    this.formed = new Answers(this.places);
    this.ready = new Answers(this.places);
    this.finished = new Answers(this.places);
    this.prepared = new Answers(this.places);
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
    return this.#byId.get(id) ?? null;
  }

  named<T>(answers: readonly T[]): Answer<T>[] {
    return this.places.map((place, rank) => ({ name: nameOf(place), answer: answers[rank]! }));
  }

  /** The step after which the members hold the state; null: those that share it will tell. */
  get from(): number | null {
    return this.#from;
  }

  /** Sends to all members, or to one. */
  send(message: FromCoordinator, to = this.places.map(({ id }) => id)): Action {
    return { type: 'send', to, message: { generation: this.number, ...message } };
  }

  /** Whether the generation is in this stage, before it, or after it: then an answer is late or doubled. */
  at(stage: Stage): 'now' | 'later' | 'past' {
    const difference = STAGES.indexOf(this.#stage) - STAGES.indexOf(stage);
    if (difference === 0) return 'now';
    return difference < 0 ? 'later' : 'past';
  }

  /** Whether the member still owes the run anything. */
  owes(id: string): boolean {
    const open = [...this.applied.values(), ...this.validated.values()];
    return !this.finished.has(id) || open.some((answers) => !answers.has(id));
  }

  /** Whether all members have done everything. */
  get settled(): boolean {
    return this.finished.missing.length + this.applied.size + this.validated.size === 0;
  }

  /** All have reached their peers, and are told where the state comes from: that after a step, if it is known. */
  sync(from: number | null, now: number): void {
    this.#enter('SYNCING', now);
    this.#from = from;
  }

  /** All hold the state. They follow the orders, and then compute the next step unless they stop. */
  start(orders: Orders, now: number): void {
    this.#order(orders, now);
  }

  /** The step that was computed is committed, and the same follows. */
  commit(orders: Orders, now: number): void {
    this.#longestStep = Math.max(this.#longestStep, this.#slowStep ? 0 : now - this.#since);
    this.#slowStep = orders.validate;
    this.prepared = new Answers(this.places);
    this.#order(orders, now);
  }

  #order({ step, validate, checkpoint, stop }: Orders, now: number): void {
    if (checkpoint) this.applied.set(step, new Answers(this.places));
    if (validate) this.validated.set(step, new Answers(this.places));
    this.#enter(stop ? 'CHECKPOINTING' : 'RUNNING', now);
    this.#step = stop ? step : step + 1;
  }

  /** The last checkpoint is being written. */
  writing(now: number): void {
    if (this.#stage === 'CHECKPOINTING') this.#since = now;
  }

  /** This process was paused for a time, which does not count. */
  paused(ms: number): void {
    this.#since += ms;
  }

  /**
   * Who is too late, if the stage or the step has taken too long; null if it has not. A step may take any time as long
   * as a member that it waits for gets on.
   *
   * @param gotOn When the member's threads last got on.
   */
  overdue(now: number, gotOn: (id: string) => number): Overdue | null {
    const { ms, code, missing, what } = this.#limit();
    const waited = now - this.#since;
    if (waited <= ms) return null;
    if (this.#stage === 'RUNNING' && missing.some(({ id }) => now - gotOn(id) <= ms)) return null;
    const reason = `did not ${what} within ${(waited / 1000).toFixed(0)} s`;
    const who = missing.map(nameOf).join(', ');
    return {
      late: missing,
      reason,
      fault: { code, message: `${who || 'The coordinator'} ${reason}`, hint: null },
    };
  }

  /** How long the stage or the step may take, and for whom it waits to do what. */
  #limit(): { ms: number; code: ErrorCode; missing: readonly Place[]; what: string } {
    switch (this.#stage) {
      case 'FORMING': {
        const ms = this.#follows ? REFORM_MS : FORM_MS;
        return { ms, code: 'ERR_JOIN_TIMEOUT', missing: this.formed.missing, what: 'connect to the others' };
      }
      case 'SYNCING':
        return {
          ms: PREPARE_STATE_MS,
          code: 'ERR_JOIN_TIMEOUT',
          missing: this.ready.missing,
          what: 'get the state',
        };
      case 'RUNNING': {
        const ms = this.#slowStep ? SLOW_STEP_MS : Math.max(STEP_MS, STEP_MULTIPLE * this.#longestStep);
        return {
          ms,
          code: 'ERR_PROGRESS',
          missing: this.prepared.missing,
          what: `compute step ${this.#step}`,
        };
      }
      case 'CHECKPOINTING': {
        const { missing } = this.finished;
        const what = missing.length > 0 ? 'finish after the last step' : 'publish the last checkpoint';
        return { ms: SLOW_STEP_MS, code: 'ERR_PROGRESS', missing, what };
      }
    }
  }

  #enter(stage: Stage, now: number): void {
    this.#stage = stage;
    this.#since = now;
  }
}
