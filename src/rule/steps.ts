/**
 * The steps of a run and what is ordered after them. They belong to the run: whichever generation computes a
 * step, it is committed once, and what was ordered after it stays ordered until it is done.
 */
import { OrchestratorError } from '../errors.js';
import type { Fault } from '../fault.js';
import type { Orders, Prepared, Saved, Validated } from '../rpc/proto.js';
import type { CheckpointRecord } from '../telemetry/record.js';
import type { Action, Settings } from './events.js';
import type { Generation } from './generation.js';
import { Ledger } from './ledger.js';
import { nameOf } from './members.js';
import { ordersAfter } from './orders.js';
import { PendingCheckpoints } from './pending-checkpoints.js';

export class Steps {
  readonly #settings: Settings;
  readonly #ledger: Ledger;
  readonly checkpoints: PendingCheckpoints;
  /** The last step whose validation is over. */
  #validated: number;
  /** The step after which the workers were ordered to stop; null: none yet. */
  #last: number | null = null;
  /** Why the checkpoint of that step was not written; null: it was, or is being written. */
  #lastFailure: Fault | null = null;
  /** The steps of the coordinator before this one count, because workers have kept its state. */
  #recovered = false;
  /** The first generation of this process has begun. */
  begun = false;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#ledger = new Ledger(settings.resumeStep, settings.former?.digestOf);
    this.checkpoints = new PendingCheckpoints(settings);
    this.#validated = settings.resumeStep;
  }

  /** The last committed step. */
  get committed(): number {
    return this.#ledger.committed;
  }

  /**
   * A worker has kept the state of the coordinator before this one, whose steps count from now on.
   *
   * @returns whether they do.
   */
  recover(): boolean {
    const { former } = this.#settings;
    if (former === undefined || this.begun) return false;
    this.#recovered = true;
    this.#ledger.recover(former.committed);
    return true;
  }

  /**
   * The first generation of this process begins after step `from`.
   *
   * @returns how many committed steps are run again; null: the run resumes from the checkpoint, or begins.
   */
  begin(from: number): number | null {
    this.begun = true;
    if (!this.#recovered) return null;
    const { former, resumeStep } = this.#settings;
    // What was recorded of later steps is replaced.
    this.#validated = Math.max(resumeStep, former!.validated(from));
    return this.#ledger.begin(from);
  }

  /** Whether steps were committed after the last checkpoint. */
  get unsaved(): boolean {
    return this.committed > this.checkpoints.last.step;
  }

  /** The last step that was committed, also by the coordinator before this one, whose state nobody may have kept. */
  get reached(): number {
    return Math.max(this.committed, this.begun ? 0 : (this.#settings.former?.committed ?? 0));
  }

  /** Whether steps were committed after the last checkpoint that somebody may hold. */
  get mayBeUnsaved(): boolean {
    return this.reached > this.checkpoints.last.step;
  }

  /**
   * The members of a generation hold the same state, that after step `from`. What is due with it is ordered. A run
   * that is asked to stop computes the last committed step again where nobody had applied it, so that it is in the
   * checkpoint.
   */
  start(generation: Generation, from: number, stopping: boolean, now: number): Action[] {
    const { orders, skipped } = this.#due(from, stopping && from !== this.committed - 1);
    generation.start(orders, now);
    const order = this.#order('start', orders, generation, now);
    return [...order, ...skipped, ...this.checkpoints.onlyValidating(orders.validate ? from : null)];
  }

  /**
   * The members have computed the step with the same result, so it is committed.
   *
   * @param regroups The next generation forms after it: what is due is ordered when that one starts.
   * @returns a fault if the step was committed before and had another result.
   */
  commit(
    generation: Generation,
    prepared: Prepared[],
    { stopping, regroups }: { stopping: boolean; regroups: boolean },
    now: number,
  ): Action[] | Fault {
    const { step } = generation;
    const entered = this.#ledger.enter(step, prepared);
    if ('fault' in entered) return entered.fault;
    const { validate } = this.#ordersAfter(step, stopping);
    const { isNew, digest } = entered;
    const commit: Action[] = isNew ? [{ type: 'commit', step, prepared, digest }] : [];
    const { places } = generation;
    const record: Action[] = isNew ? [{ type: 'record', step, prepared, places, validate }] : [];
    const none = { step, validate: false, checkpoint: false, stop: false };
    const { orders, skipped } = regroups ? { orders: none, skipped: [] } : this.#due(step, stopping);
    generation.commit(orders, now);
    const order = this.#order('commit', orders, generation, now);
    // A message leaves when all of this is done. What a worker has heard of is recorded, whenever this process dies.
    return [...commit, ...record, ...order, ...skipped];
  }

  /** A worker has applied the step; a fault if its state is another one than that of a worker before it. */
  applied(generation: Generation, id: string, step: number, stateHash: string): Action[] | Fault {
    const applied = generation.applied.get(step);
    if (applied === undefined) return [];
    const other = applied.dissenter(stateHash);
    if (other !== null) {
      return new OrchestratorError(
        'ERR_STATE_MISMATCH',
        `The state of ${nameOf(generation.place(id)!)} and of ${nameOf(other)} differ after step ${step}; its checkpoint is discarded`,
        'One of the machines may have faulty memory or a faulty processor',
      );
    }
    if (applied.add(id, stateHash) === null) return [];
    generation.applied.delete(step);
    return this.checkpoints.agree(step);
  }

  validated(generation: Generation, id: string, part: Validated): Action[] {
    const { step } = part;
    const parts = generation.validated.get(step)?.add(id, part) ?? null;
    if (parts === null) return [];
    generation.validated.delete(step);
    this.#validated = Math.max(this.#validated, step);
    const sync: Action[] = this.checkpoints.has(step) ? [{ type: 'syncRecords', step }] : [];
    return [{ type: 'validation', step, parts }, ...sync, ...this.checkpoints.validated(step)];
  }

  saved(id: string, saved: Saved): Action[] {
    return this.checkpoints.awaits(saved.step, id) ? this.checkpoints.stage(saved) : [];
  }

  /** Without the last checkpoint the run has failed; without another one it goes on. */
  notSaved(step: number, fault: Fault): Action[] {
    if (step !== this.#last) return [this.checkpoints.miss(step, fault)];
    this.checkpoints.drop(step);
    this.#lastFailure = fault;
    return [];
  }

  /** @param generation The current one, which may be running steps before the checkpoint again. */
  published(checkpoint: CheckpointRecord, generation: Generation | null): Action[] {
    this.checkpoints.published(checkpoint);
    this.#ledger.settle(
      Math.min(checkpoint.step, generation === null ? checkpoint.step : generation.step - 1),
    );
    return [{ type: 'saved', checkpoint }];
  }

  /**
   * What the run still waits for when its workers have done everything: a checkpoint that is being published.
   * If the last one failed, the run fails as soon as those before it are published, because one of them is
   * what it resumes from.
   */
  get outcome(): 'open' | 'done' | Fault {
    if (this.checkpoints.writing !== null) return 'open';
    return this.#lastFailure ?? 'done';
  }

  #ordersAfter(step: number, stopping: boolean): Orders {
    const { last, missed } = this.checkpoints;
    const writing = this.checkpoints.has(step);
    const done = { validated: this.#validated, published: last.step, missed, writing };
    return ordersAfter(step, stopping, done, this.#settings);
  }

  /** What is due after the step, without a checkpoint for which the disk is too slow: only the last one waits. */
  #due(step: number, stopping: boolean): { orders: Orders; skipped: Action[] } {
    const orders = this.#ordersAfter(step, stopping);
    const { writing } = this.checkpoints;
    if (!orders.checkpoint || orders.stop || writing === null) return { orders, skipped: [] };
    return { orders: { ...orders, checkpoint: false }, skipped: [this.checkpoints.skip(step, writing)] };
  }

  #order(message: 'start' | 'commit', orders: Orders, generation: Generation, now: number): Action[] {
    const { step, checkpoint, stop } = orders;
    const send = generation.send({ [message]: orders });
    if (stop) this.#last = step;
    if (!checkpoint) return [send];
    this.checkpoints.request(orders, generation.places[0]!.id, now);
    return [{ type: 'syncRecords', step }, send];
  }
}
