/** The checkpoints of a run that were ordered and are not published yet, and from which one the run resumes. */
import type { Fault } from '../fault.js';
import type { Orders, Saved } from '../rpc/proto.js';
import type { MissedCheckpoint } from '../telemetry/record.js';
import type { Action, Settings } from './events.js';
import type { Beginning } from './source.js';

/** The user is told of a checkpoint of which nothing was heard for this long. A flush to a slow disk can take a minute. */
const STALLED_MS = 120_000;

interface Pending {
  /** The worker that writes it. */
  writer: string;
  /** Since when nothing was heard of it. */
  since: number;
  /** The user knows that it does not get on. */
  told: boolean;
  /** All workers have applied the step with the same state. */
  agreed: boolean;
  /** The step is being validated, which who resumes from the checkpoint does not do again: it is published then. */
  validating: boolean;
  /** The number of the fetch by which the coordinator gets the state that the writer has offered; null: none. */
  fetch: number | null;
  /** What the writer has staged; null while it writes. */
  staged: Saved | null;
}

export class PendingCheckpoints {
  /** By step. There are two at the end of a run whose checkpoint before the last is still being written. */
  readonly #pending = new Map<number, Pending>();
  /** The last checkpoint; at first that from which the run was resumed. */
  #last: Beginning;
  /** Whether this process has published it. */
  #own = false;
  #missed = 0;
  #fetches = 0;

  constructor({ resumePath, resumeStep }: Pick<Settings, 'resumePath' | 'resumeStep'>) {
    this.#last = { step: resumeStep, path: resumePath };
  }

  /** The last checkpoint, from which a generation begins whose members hold no state. */
  get last(): Beginning {
    return this.#last;
  }

  /** The last step whose checkpoint was given up. */
  get missed(): number {
    return this.#missed;
  }

  /** The earliest step whose checkpoint is not published yet; null = none. */
  get writing(): number | null {
    const [step = null] = this.#pending.keys();
    return step;
  }

  has(step: number): boolean {
    return this.#pending.has(step);
  }

  /** Whether the worker writes a checkpoint. */
  isWriter(id: string): boolean {
    return [...this.#pending.values()].some(({ writer, staged }) => writer === id && staged === null);
  }

  /** Whether the worker writes that of this step. */
  awaits(step: number, id: string): boolean {
    const pending = this.#pending.get(step);
    return pending?.writer === id && pending.staged === null;
  }

  /** The writer offers the state of its step, which is fetched once. The number of the fetch; null: it is not wanted. */
  offer(step: number, id: string): number | null {
    if (!this.awaits(step, id)) return null;
    this.#pending.get(step)!.fetch = ++this.#fetches;
    return this.#fetches;
  }

  /** The number of the fetch by which the state of this step is got from the worker; null: it is not. */
  fetchOf(step: number, id: string): number | null {
    const pending = this.#pending.get(step);
    return pending?.writer === id && pending.staged === null ? pending.fetch : null;
  }

  /** A fetch has failed. The step whose checkpoint awaits it, and was not ordered again since; null: none does. */
  notFetched(fetch: number): number | null {
    for (const [step, pending] of this.#pending) {
      if (pending.fetch !== fetch || pending.staged !== null) continue;
      pending.fetch = null;
      return step;
    }
    return null;
  }

  request({ step, validate: validating }: Orders, writer: string, now: number): void {
    const begun = { since: now, told: false, agreed: false, fetch: null, staged: null };
    this.#pending.set(step, { writer, validating, ...begun });
  }

  /** The writer goes on writing. One that is to write two begins with the earlier. */
  getsOn(writer: string, now: number): void {
    for (const pending of this.#pending.values()) {
      if (pending.writer === writer) Object.assign(pending, { since: now, told: false });
    }
  }

  /** This process was paused for a time, which does not count. */
  paused(ms: number): void {
    for (const pending of this.#pending.values()) pending.since += ms;
  }

  /**
   * Those that do not get on: each is returned once.
   *
   * Time in which the step is validated does not count.
   */
  stalled(now: number) {
    return [...this.#pending].flatMap(([step, pending]): { step: number; writer: string; ms: number }[] => {
      if (pending.validating) pending.since = now;
      const ms = now - pending.since;
      if (pending.told || ms <= STALLED_MS) return [];
      pending.told = true;
      return [{ step, writer: pending.writer, ms }];
    });
  }

  /** All workers hold the same state after the step. */
  agree(step: number): Action[] {
    return this.#publishOnce(step, { agreed: true });
  }

  /** The step was validated. */
  validated(step: number): Action[] {
    return this.#publishOnce(step, { validating: false });
  }

  /** Nobody validates any step but this one, if any: what only waits for that of another is published without. */
  onlyValidating(step: number | null): Action[] {
    const others = [...this.#pending].filter(
      ([other, { agreed, staged, validating }]) => agreed && staged !== null && validating && other !== step,
    );
    return others.flatMap(([other]) => this.validated(other));
  }

  /** The writer has staged the checkpoint of the step. */
  stage(saved: Saved): Action[] {
    return this.#publishOnce(saved.step, { staged: saved });
  }

  #publishOnce(step: number, change: Partial<Pending>): Action[] {
    const pending = this.#pending.get(step);
    if (pending === undefined) return [];
    const { agreed, validating, staged } = Object.assign(pending, change);
    if (!agreed || validating || staged === null) return [];
    const later = [...this.#pending].find(
      ([other, its]) => other > step && its.agreed && !its.validating && its.staged !== null,
    );
    const newer = later?.[0] ?? (this.#last.step > step ? this.#last.step : null);
    return newer === null
      ? [{ type: 'publish', saved: staged }]
      : [this.#lose(step, `that of step ${newer} is there already`)];
  }

  published({ step, path }: Beginning): void {
    this.#pending.delete(step);
    this.#last = { step, path };
    this.#own = true;
  }

  /** It was not written, or could not be published; the run goes on. */
  miss(step: number, fault: Fault, reason: MissedCheckpoint['reason'] = 'failed'): Action {
    this.drop(step);
    this.#missed = Math.max(this.#missed, step);
    const told = reason === 'failed' ? this.resumable(fault, 'Training goes on. ') : fault;
    return { type: 'notSaved', missed: { step, reason, fault: told } };
  }

  /** It is left out, because that of an earlier step is still being written. */
  skip(step: number, writing: number): Action {
    const message = `No checkpoint of step ${step}: that of step ${writing} is still being written; training goes on`;
    const hint = 'If the disk cannot be faster, raise checkpoint.every';
    return this.miss(step, { code: 'ERR_CHECKPOINT_WRITE', message, hint }, 'skipped');
  }

  drop(step: number): void {
    this.#pending.delete(step);
  }

  /**
   * The worker is gone. What it was writing is lost; only that of the last committed step can be ordered again,
   * because a generation ends with its writer.
   */
  leave(id: string, committed: number): Action[] {
    const lost = [...this.#pending].filter(([, { writer, staged }]) => writer === id && staged === null);
    if (lost.length === 0) return [];
    for (const [, pending] of lost) pending.fetch = null;
    const misses = lost.flatMap(([step]) =>
      step === committed ? [] : [this.#lose(step, 'the worker that wrote it is gone')],
    );
    const rest = [...this.#pending.values()].filter(({ writer, staged }) => writer !== id || staged !== null);
    // The name of what another one is writing is not known yet.
    if (rest.some(({ staged }) => staged === null)) return misses;
    return [...misses, { type: 'sweep', keep: rest.map(({ staged }) => staged!.folder) }];
  }

  /**
   * A generation has ended. The checkpoint of the last committed step goes on if it is staged and all have the
   * same state, otherwise it may not have been begun, and is ordered again; its validation is, too. Earlier ones go
   * on without it, unless some of the members did not say which state they had.
   */
  regroup(committed: number): Action[] {
    return [...this.#pending].flatMap(([step, { agreed, staged, validating }]) => {
      if (agreed && step < committed) return validating ? this.validated(step) : [];
      if (agreed && staged !== null) return [];
      if (step < committed) return [this.#lose(step, 'not all workers have said which state they had')];
      this.drop(step);
      return [];
    });
  }

  #lose(step: number, why: string): Action {
    const message = `No checkpoint of step ${step}: ${why}`;
    return this.miss(step, { code: 'ERR_CHECKPOINT_WRITE', message, hint: null });
  }

  /** From where the run goes on after a failure: a sentence. */
  resumption(): string {
    const { step, path } = this.#last;
    if (this.#own) {
      return `The last checkpoint is that of step ${step}: \`--resume auto\`, the default, resumes from it`;
    }
    if (path === '') return 'There is no checkpoint yet: the same command starts from the beginning';
    return `No checkpoint was written since the run was resumed: the same command resumes from ${path} (step ${step})`;
  }

  /** The fault, with from where the run goes on after its hint. */
  resumable({ code, message, hint }: Fault, before = ''): Fault {
    const sentence = `${before}${this.resumption()}`;
    return { code, message, hint: hint === null ? sentence : `${hint}. ${sentence}` };
  }
}
