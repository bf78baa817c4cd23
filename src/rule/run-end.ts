/** How a run ends: all is done, it was asked to stop, or it has failed. The workers are told, and then the launcher. */
import { EXIT } from '../errors.js';
import type { Fault } from '../fault.js';
import type { Action, Phase, Settings } from './events.js';
import type { Membership } from './membership.js';
import type { Steps } from './steps.js';

export interface Ending {
  exitCode: number;
  reason: string;
  /** Why it has failed; null: it has not. */
  fault: Fault | null;
}

export class RunEnd {
  readonly #settings: Settings;
  readonly #steps: Steps;
  readonly #membership: Membership;
  #asked: Ending | null = null;
  /** For whom the user knows that the run waits. */
  #told = '';
  #over: Extract<Phase, 'DONE' | 'STOPPED' | 'FAILED'> | null = null;

  constructor(settings: Settings, steps: Steps, membership: Membership) {
    this.#settings = settings;
    this.#steps = steps;
    this.#membership = membership;
  }

  /** The last phase; null: the run is not over. */
  get over(): Extract<Phase, 'DONE' | 'STOPPED' | 'FAILED'> | null {
    return this.#over;
  }

  /** How the run will end after a step and a checkpoint, as it was asked to while it trained; null: it was not. */
  get asked(): Ending | null {
    return this.#asked;
  }

  /** @returns what the user is told. */
  ask(ending: Ending, now: number): Action {
    this.#asked = ending;
    // Where too few workers have come, those that may hold the state were waited for as long as the others.
    this.#membership.rendezvous.stops(ending.fault === null ? now : Number.NEGATIVE_INFINITY);
    const { generation } = this.#membership;
    const [told = null] = generation === null ? this.awaits(now) : [];
    return told ?? { type: 'stopping', reason: ending.reason, awaited: [], ms: 0 };
  }

  /** Tells the user for whom a run waits that is asked to stop, when others are waited for than before. */
  awaits(now: number): Action[] {
    const { names, ms } = this.#membership.awaited(now);
    const told = [...names].sort().join();
    if (names.length === 0 || told === this.#told) return [];
    this.#told = told;
    return [{ type: 'stopping', reason: this.#asked!.reason, awaited: names, ms }];
  }

  orFail(result: Action[] | Fault): Action[] {
    return Array.isArray(result) ? result : this.fail(result);
  }

  fail(fault: Fault): Action[] {
    return this.finish({ exitCode: EXIT.failed, reason: fault.message, fault });
  }

  stopped(exitCode: number, reason: string): Action[] {
    return this.finish({ exitCode, reason, fault: null });
  }

  finish({ exitCode, reason, fault }: Ending): Action[] {
    if (fault !== null) this.#over = 'FAILED';
    else this.#over = exitCode === EXIT.done ? 'DONE' : 'STOPPED';
    const stop = this.#membership.send(null, { stop: { exitCode } });
    // Before the first step there is nothing to go on from, but a worker that was lost may have had no fault.
    const isResumable = fault !== null && (this.#membership.begun || fault.code === 'ERR_WORKER_LOST');
    const told = isResumable ? this.#steps.checkpoints.resumable(fault) : fault;
    // Who runs the same command again after a stop in order relies on that nothing is lost.
    const { unsaved, mayBeUnsaved } = this.#steps;
    const areAwaited = (this.#settings.former?.members.length ?? 0) > 0;
    const isUnsaved = this.#over === 'STOPPED' && (unsaved || (mayBeUnsaved && areAwaited));
    // What waits for its validation is of use to who resumes.
    const staged = this.#steps.checkpoints.onlyValidating(null);
    return [
      ...staged,
      stop,
      { type: 'end', exitCode: isUnsaved ? EXIT.unsaved : exitCode, reason, fault: told },
    ];
  }

  /** Ends the run when all workers have finished and the last checkpoint is published. */
  ifDone(): Action[] {
    const { outcome } = this.#steps;
    if (outcome === 'open') return [];
    if (outcome !== 'done') return this.fail(outcome);
    const { gathering, generation } = this.#membership;
    if (gathering || generation?.stage !== 'CHECKPOINTING' || !generation.settled) return [];
    if (this.#asked !== null) return this.finish(this.#asked);
    const reason = `All ${this.#settings.steps} steps are done`;
    return this.finish({ exitCode: EXIT.done, reason, fault: null });
  }
}
