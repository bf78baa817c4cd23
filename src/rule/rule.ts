/**
 * The rule of a run, without processes, sockets, files and clocks: it takes events and returns actions. The
 * caller carries out the actions in order, and completes each before the next, so that a step is recorded
 * before the workers hear of it.
 *
 * Steps and what is ordered after them belong to the run (steps.ts). Everything else belongs to a generation.
 */
import { EXIT } from '../errors.js';
import { type Fault, isErrorCode } from '../fault.js';
import { describeExit, isStopCode, SIGNAL_EXIT, signalOfCode, stopCodeOf } from '../signals.js';
import { BrokenLinks } from './broken-links.js';
import type { Action, Event, Phase, Place, Settings } from './events.js';
import { endsRun } from './failures.js';
import type { Generation } from './generation.js';
import { type Answer, MemberAnswers } from './member-answers.js';
import { Membership } from './membership.js';
import { OfferedStates } from './offered-states.js';
import type { Rendezvous } from './rendezvous.js';
import { type Ending, RunEnd } from './run-end.js';
import { slowWork } from './slow-work.js';
import type { Beginning } from './source.js';
import { Steps } from './steps.js';

/** A worker silent for this long counts as dead. Building a large model may block its event loop. */
const SILENT_MS = { training: 3_000, building: 60_000 };
/** A longer gap between ticks means that this process was paused, not the workers. */
const PAUSED_MS = 1_000;

type Exited = Extract<Event, { type: 'exited' }>;

/** One run, from joining to its end. */
export class RunState {
  readonly #settings: Settings;
  readonly #steps: Steps;
  readonly #membership: Membership;
  readonly #links: BrokenLinks;
  readonly #answers: MemberAnswers;
  readonly #offers: OfferedStates;
  readonly #end: RunEnd;
  #listening = false;
  #lastTick = 0;
  /** The names of workers that were lost, and at which step: the launcher may know why, and says so later. */
  readonly #lostOnes = new Map<string, { name: string; where: string }>();

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#steps = new Steps(settings);
    this.#membership = new Membership(settings, this.#steps);
    this.#links = new BrokenLinks(this.#membership);
    this.#answers = new MemberAnswers(settings, this.#steps, this.#membership, this.#links);
    this.#offers = new OfferedStates(this.#steps.checkpoints, this.#membership);
    this.#end = new RunEnd(settings, this.#steps, this.#membership);
  }

  get phase(): Phase {
    if (this.#end.over !== null) return this.#end.over;
    if (!this.#listening) return 'INIT';
    if (this.#generation === null) return 'JOINING';
    if (this.#membership.gathering) return 'FORMING';
    const { stage } = this.#generation;
    return stage === 'RUNNING' && this.#end.asked !== null ? 'DRAINING' : stage;
  }

  /** Whether the run was asked to stop while it trains. */
  get stopping(): boolean {
    return this.#end.asked !== null;
  }

  /** The number of the last generation. */
  get generation(): number {
    return this.#membership.number;
  }

  /** The last committed step, also of a coordinator before this one whose state workers have kept; 0: none. */
  get committed(): number {
    return this.#steps.committed;
  }

  /** The last step that was committed, also by a coordinator before this one whose state nobody has kept. */
  get reached(): number {
    return this.#steps.reached;
  }

  /** The last checkpoint, from which a generation begins whose members hold no state. */
  get checkpoint(): Beginning {
    return this.#steps.checkpoints.last;
  }

  /** The members of the generation by rank; none before the first. */
  get places(): readonly Place[] {
    return this.#generation?.places ?? [];
  }

  /** Who takes part, and who is missing. */
  get rendezvous(): Rendezvous {
    return this.#membership.rendezvous;
  }

  get #generation(): Generation | null {
    return this.#membership.generation;
  }

  /** @param now Milliseconds of any monotonic clock. */
  handle(event: Event, now: number): Action[] {
    if (this.#end.over !== null) return [];
    if (event.type === 'exited' || event.type === 'gone' || event.type === 'forgotten') {
      return this.#told(event, now);
    }
    const { members } = this.#membership;
    if ('id' in event && event.type !== 'joined') {
      if (!members.has(event.id)) return [];
      members.heard(event.id, now);
    }
    switch (event.type) {
      case 'listening':
        this.#listening = true;
        this.#membership.rendezvous.begin(now);
        this.#lastTick = now;
        return [];
      case 'expected':
        this.#membership.rendezvous.expect(event.workers);
        return [];
      case 'joined':
        return this.#joined(event, now);
      case 'standby':
        return this.#membership.standBy(event.id, event.standby, now);
      case 'leave':
        return this.#onLeave(event.id, event.leave.exitCode, now);
      case 'lost':
        return this.#lost(event.id, event.reason, now, { mayLive: true });
      case 'failure':
        return this.#onFailure(event.id, faultFrom(event.failure), now);
      case 'heartbeat':
        members.beats(event.id, event.heartbeat, now);
        return [];
      case 'saving':
        this.#generation?.writing(now);
        this.#steps.checkpoints.getsOn(event.id, now);
        return [];
      case 'offered':
        return this.#offers.take(event.id, event.offered);
      case 'saved':
        return [
          ...this.#offers.settle(event.id, event.saved.step, true),
          ...this.#settled(this.#steps.saved(event.id, event.saved)),
        ];
      case 'notSaved': {
        const { step, failure } = event.notSaved;
        const settled = this.#offers.settle(event.id, step, false);
        if (!this.#steps.checkpoints.awaits(step, event.id)) return settled;
        const fault = faultFrom(failure ?? { code: '', message: '', hint: '' });
        return [...settled, ...this.#settled(this.#steps.notSaved(step, fault))];
      }
      case 'notFetched': {
        const { actions, missed } = this.#offers.fetchAgain(event.fetch);
        return missed === null
          ? actions
          : [...actions, ...this.#settled(this.#steps.notSaved(missed, event.fault))];
      }
      case 'published':
        return this.#settled(this.#steps.published(event.checkpoint, this.#generation));
      case 'notPublished':
        return this.#settled(this.#steps.notSaved(event.step, event.fault));
      case 'stop':
        return this.#onStop(event.exitCode, event.reason, now);
      case 'actionFailed':
        return this.#end.fail(event.fault);
      case 'gathered':
        return this.#membership.gathered(now);
      case 'tick':
        return this.#tick(now);
      default: {
        const generation = this.#generation;
        if (generation === null || this.#membership.gathering) {
          // It can give the state to others, whatever has become of its generation.
          if (event.type === 'ready') members.hold([members.get(event.id)!], event.ready.step);
          return [];
        }
        // Who has no place in the generation was asked nothing.
        return generation.place(event.id) ? this.#onAnswer(event, generation, now) : [];
      }
    }
  }

  /** An answer of a member of the generation. */
  #onAnswer(event: Answer, generation: Generation, now: number): Action[] {
    const situation = { stopping: this.#end.asked !== null, text: `${this.phase}${this.#membership.where}` };
    const { result, settles } = this.#answers.take(event, generation, situation, now);
    return settles ? this.#settled(result) : this.#end.orFail(result);
  }

  #joined(event: Extract<Event, { type: 'joined' }>, now: number): Action[] {
    const { type: _, newest = 0, instructionSets, onlyIsa, ...member } = event;
    const { id } = member;
    const isKnown = this.#membership.members.has(id);
    const former = isKnown ? this.#lost(id, 'it has joined again', now, { mayLive: newest > 0 }) : [];
    if (this.#end.over !== null) return former;
    return [...former, ...this.#membership.join(member, { instructionSets, onlyIsa }, newest, now)];
  }

  /** It stays until it is released, so that a signal to all workers still ends with a checkpoint. */
  #onLeave(id: string, exitCode: number, now: number): Action[] {
    const { members } = this.#membership;
    const code = isStopCode(exitCode) ? exitCode : SIGNAL_EXIT.SIGTERM;
    const isKnown = members.leaving.some((one) => one.id === id);
    members.wantsToLeave(id, code);
    if (this.#end.asked !== null || this.#membership.missed(now) !== null) {
      return this.#onStop(code, this.#stoppedBy(id, code), now);
    }
    const released = this.#membership.release();
    if (released.length > 0 || isKnown) return released;
    return [{ type: 'note', message: `${this.#membership.name(id)} leaves after the step` }];
  }

  /** The error of a worker ends the worker, or the run. */
  #onFailure(id: string, { code, message, hint }: Fault, now: number): Action[] {
    const { members } = this.#membership;
    const ownAccord = members.get(id)?.ownAccord ?? false;
    const standing = {
      begun: this.#membership.begun,
      holds: members.holdsAny(id),
      ownAccord,
      ...members.othersOf(id),
    };
    if (endsRun(code, standing)) {
      return this.#end.fail({ code, message: `${this.#membership.name(id)}: ${message}`, hint });
    }
    const reason = `${code}: ${message}${hint === null ? '' : ` (${hint})`}`;
    return [{ type: 'cut', id, reason }, ...this.#lost(id, reason, now)];
  }

  #lost(id: string, reason: string, now: number, { mayLive = false } = {}): Action[] {
    const name = this.#membership.name(id);
    this.#lostOnes.set(id, { name, where: this.#membership.where });
    return this.#departed(id, `Lost ${name}${this.#membership.where}: ${reason}`, now, mayLive);
  }

  /** What a launcher says of its workers. */
  #told(event: Extract<Event, { type: 'exited' | 'gone' | 'forgotten' }>, now: number): Action[] {
    const { rendezvous, members } = this.#membership;
    const { type, id } = event;
    if (type === 'forgotten') rendezvous.forget(id);
    else if (type === 'gone') rendezvous.gone(id);
    else {
      const { pid = null, exit, again, mayLive = false } = event;
      const here = members.get(id)?.pid ?? null;
      // The member lives.
      if (pid !== null && here !== null && pid !== here) {
        const message = `another process of ${this.#membership.name(id)}, pid ${pid}, ${describeExit(exit)}`;
        return [{ type: 'warn', message }];
      }
      if (!again) rendezvous.gone(id, { mayLive });
      else if (!mayLive) rendezvous.ended(id);
      return this.#exited(event, now, (where = '') => describeExit(exit, where, pid !== null));
    }
    return [];
  }

  #exited(event: Exited, now: number, described: (where?: string) => string): Action[] {
    const { id, exit, mayLive = false } = event;
    const isMember = this.#membership.members.has(id);
    const released = this.#membership.takeReleased(id);
    const lost = this.#lostOnes.get(id);
    this.#lostOnes.delete(id);
    if (!isMember && released !== null && stopCodeOf(exit) !== null)
      return [{ type: 'note', message: `${released} has left` }];
    // The end of its session was noticed before.
    if (!isMember && lost !== undefined) {
      const message = `${lost.name} ${described(lost.where)}`;
      this.#membership.rendezvous.explain(id, message);
      return [{ type: 'warn', message }];
    }
    const name = this.#membership.name(id);
    if (!isMember && (mayLive || this.#generation !== null)) {
      return [{ type: 'warn', message: `${name} ${described()}` }];
    }
    // Before the first step there is nothing to save, unless others return that hold what another coordinator has led.
    const isFirst = !this.#membership.begun && (this.#settings.former?.members.length ?? 0) === 0;
    const stopCode = isFirst ? stopCodeOf(exit) : null;
    if (stopCode !== null) return this.#end.stopped(stopCode, this.#stoppedBy(id, stopCode));
    const where = isMember ? this.#membership.where : ' before it joined';
    return this.#departed(id, `${name} ${described(where)}`, now, mayLive);
  }

  /** @param mayLive Whether only its connection is known to have ended. */
  #departed(id: string, message: string, now: number, mayLive: boolean): Action[] {
    const actions = this.#settled(this.#membership.depart(id, message, now, { mayLive }));
    if (this.#end.asked === null || this.#end.over !== null) return actions;
    if (this.#generation !== null) return [...actions, ...this.#end.awaits(now)];
    const { rendezvous } = this.#membership;
    const mayBeSaved = rendezvous.next.length > 0 || rendezvous.awaitsHolder(now);
    return [...actions, ...(mayBeSaved ? this.#end.awaits(now) : this.#end.finish(this.#end.asked))];
  }

  #onStop(exitCode: number, reason: string, now: number): Action[] {
    const { phase } = this;
    // The last step is committed: the run ends as it would have.
    if (phase === 'CHECKPOINTING') return [this.#drain()];
    if (this.#end.asked !== null) {
      // systemd sends SIGTERM and SIGHUP together, and the order in which they arrive is not that of sending.
      if (exitCode === SIGNAL_EXIT.SIGTERM) Object.assign(this.#end.asked, { exitCode, reason });
      return [];
    }
    if (phase !== 'RUNNING' && !this.#canSave) {
      if (!this.#mayReturn(now)) return this.#end.stopped(exitCode, reason);
      return [this.#end.ask({ exitCode, reason, fault: null }, now)];
    }
    return this.#save({ exitCode, reason, fault: null }, now);
  }

  /** Whether there is a state that is newer than the last checkpoint, and somebody who may hold it. */
  get #canSave(): boolean {
    return this.#steps.unsaved && this.#membership.rendezvous.next.length > 0;
  }

  /** Whether workers may return that hold a newer state than the last checkpoint. */
  #mayReturn(now: number): boolean {
    const { rendezvous } = this.#membership;
    return (
      this.#steps.mayBeUnsaved && (rendezvous.awaitsHolder(now) || rendezvous.holdersAway(null).length > 0)
    );
  }

  /** Ends the run after the step and a checkpoint. Where there is no generation, those that are left form one. */
  #save(ending: Ending, now: number): Action[] {
    const stopping = this.#end.ask(ending, now);
    const drain = this.#drain();
    const isFormed = this.#generation !== null || this.#membership.awaitsHolder(now);
    const forms = isFormed ? [] : this.#membership.form(now);
    return [stopping, drain, ...forms];
  }

  /** The workers abandon a validation, also the one that follows the last step. */
  #drain(): Action {
    return this.#membership.send(null, { drain: {} });
  }

  /** Too few workers are left, and no others come: what those that are left hold is saved. */
  #giveUp(fault: Fault, now: number): Action[] {
    if (this.#end.asked !== null || !this.#canSave) return this.#end.fail(fault);
    return this.#save({ exitCode: EXIT.failed, reason: `${fault.message}; no others have come`, fault }, now);
  }

  #tick(now: number): Action[] {
    const { rendezvous, members } = this.#membership;
    if (now - this.#lastTick > PAUSED_MS) {
      const gap = now - this.#lastTick;
      rendezvous.paused(gap);
      this.#generation?.paused(gap);
      this.#steps.checkpoints.paused(gap);
    }
    this.#lastTick = now;
    const { training, building } = SILENT_MS;
    const silent = members.silent(now, { building, built: this.#membership.begun ? training : building });
    if (silent.length > 0) {
      const mayReturn = this.#steps.unsaved && !members.holdWithout(silent.map(({ id }) => id));
      return silent.flatMap((one) => this.#silent(one, mayReturn, now));
    }
    if (this.#membership.gathering) return this.#membership.isHeldUp ? this.#membership.gathered(now) : [];
    const leaver = this.#end.asked === null ? this.#membership.missed(now) : null;
    if (leaver !== null) {
      return this.#onStop(leaver.exitCode, this.#stoppedBy(leaver.id, leaver.exitCode), now);
    }
    if (this.#generation !== null) {
      return this.#watch(this.#generation, now);
    }
    if (!this.#listening) return [];
    if (this.#end.asked !== null && !rendezvous.awaitsHolder(now)) {
      return rendezvous.next.length > 0 ? this.#membership.form(now) : this.#end.finish(this.#end.asked);
    }
    const forms = this.#membership.formIfFull(now);
    // A run that is asked to stop waits for those that hold the state, and not for others.
    const wait = forms.length > 0 || this.#end.asked !== null ? null : rendezvous.check(now);
    if (wait === null) return forms;
    return 'fault' in wait ? this.#giveUp(wait.fault, now) : [{ type: 'note', message: wait.note }];
  }

  /**
   * The others go on without a worker that is not heard. Where nobody else holds the steps since the last checkpoint, it
   * may come back with them, when its network or process goes on.
   */
  #silent({ id, ms }: { id: string; ms: number }, mayReturn: boolean, now: number): Action[] {
    if (this.#end.over !== null) return [];
    const work = this.#membership.members.workOf(id);
    const last = work === null ? '' : ` (it was last at ${work})`;
    const reason = `no sign of life for ${(ms / 1000).toFixed(1)} s${last}`;
    const cut: Action = { type: 'cut', id, reason, isSilent: true, ...(mayReturn ? { mayReturn } : {}) };
    return [cut, ...this.#lost(id, reason, now, { mayLive: mayReturn })];
  }

  /** Leaves out members that are too late or cannot reach the others; where it is all of them, the run ends. */
  #watch(generation: Generation, now: number): Action[] {
    const overdue = generation.overdue(now, (id) => this.#membership.members.gotOn(id));
    if (overdue === null) {
      const decided = this.#settled(this.#links.decide(generation, now));
      return [...decided, ...slowWork(this.#membership, this.#steps.checkpoints, now)];
    }
    const { late, reason, fault } = overdue;
    if (late.length === 0 || late.length === generation.places.length) return this.#end.fail(fault);
    return this.#settled(this.#membership.fence(late, () => reason, now));
  }

  /** Something that was ordered is done, or its worker is gone: others may be free to leave, and the run to end. */
  #settled(result: Action[] | Fault): Action[] {
    const actions = this.#end.orFail(result);
    if (this.#end.over !== null) return actions;
    return [...actions, ...this.#membership.release(), ...this.#end.ifDone()];
  }

  /** Named first is the signal: it may have been sent to all processes, of which a worker is the first heard. */
  #stoppedBy(id: string, exitCode: number): string {
    return `received ${signalOfCode(exitCode)} (first heard from ${this.#membership.name(id)})`;
  }
}

/** A worker's Failure. */
function faultFrom({ code, message, hint }: { code: string; message: string; hint: string }): Fault {
  return { code: isErrorCode(code) ? code : 'ERR_INTERNAL', message, hint: hint === '' ? null : hint };
}
