/**
 * The rule of a run, without processes, sockets, files and clocks: it takes events and returns actions. The
 * caller carries out the actions in order, and completes each before the next, so that a step is recorded
 * before the workers hear of it.
 *
 * Steps and what is ordered after them belong to the run. Everything else belongs to a generation.
 */
import { type ErrorCode, EXIT } from '../errors.js';
import { type Fault, isErrorCode } from '../fault.js';
import type { Formed, FromCoordinator, Prepared, Ready } from '../rpc/proto.js';
import { describeExit, type Exit, isStopCode, SIGNAL_EXIT, signalOfCode, stopCodeOf } from '../signals.js';
import { counted } from '../text/quantities.js';
import type { Action, Event, Member, Phase, Place, Settings } from './events.js';
import { Generation } from './generation.js';
import { judgePrepared, judgeReady } from './judge.js';
import { type Members, nameOf } from './members.js';
import { Rendezvous } from './rendezvous.js';
import { sourceOf } from './source.js';
import { Steps } from './steps.js';

/** A worker silent for this long counts as dead. Building a large model may block its event loop. */
const SILENT_MS = { training: 3_000, building: 60_000 };
/** A longer gap between ticks means that this process was paused, not the workers. */
const PAUSED_MS = 1_000;
/**
 * When a worker's session has ended, the launcher may know why, and says so within moments. It says nothing if
 * the process is alive.
 */
const LAUNCHERS_WORD_MS = 3_000;

/** How a run ends unless it fails. */
interface Ending {
  exitCode: number;
  reason: string;
}

/** One run, from joining to its end. */
export class RunState {
  readonly #settings: Settings;
  readonly #steps: Steps;
  readonly #rendezvous: Rendezvous;
  readonly #members: Members;
  #listening = false;
  /** The run was asked to stop while it trains. */
  #stop: Ending | null = null;
  /** The number of the last generation. */
  #lastGeneration: number;
  #generation: Generation | null = null;
  #lastTick = 0;
  /** A worker whose session has ended, while the launcher's word is awaited. */
  #loss: { id: string; reason: string; at: number } | null = null;
  #over: Extract<Phase, 'DONE' | 'STOPPED' | 'FAILED'> | null = null;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#rendezvous = new Rendezvous(settings);
    this.#members = this.#rendezvous.members;
    this.#steps = new Steps(settings);
    this.#lastGeneration = settings.lastGeneration;
  }

  get phase(): Phase {
    if (this.#over !== null) return this.#over;
    if (!this.#listening) return 'INIT';
    if (this.#generation === null) return 'JOINING';
    const { stage } = this.#generation;
    return stage === 'RUNNING' && this.#stop !== null ? 'DRAINING' : stage;
  }

  get generation(): number {
    return this.#lastGeneration;
  }

  /** The members of the generation by rank; none before the first. */
  get places(): readonly Place[] {
    return this.#generation?.places ?? [];
  }

  /** @param now Milliseconds of any monotonic clock. */
  handle(event: Event, now: number): Action[] {
    if (this.#over !== null) return [];
    if (event.type === 'exited') return this.#exited(event.id, event.exit, now);
    if (this.#loss !== null && !['saved', 'published', 'actionFailed'].includes(event.type)) {
      const { id, reason, at } = this.#loss;
      return now - at > LAUNCHERS_WORD_MS ? this.#lost(id, reason, now) : [];
    }
    if ('id' in event && event.type !== 'joined') {
      if (!this.#members.has(event.id)) return [];
      this.#members.heard(event.id, now);
    }
    switch (event.type) {
      case 'listening':
        this.#listening = true;
        this.#rendezvous.begin(now);
        this.#lastTick = now;
        return [];
      case 'joined':
        return this.#joined(event, now);
      case 'standby':
        return this.#onStandby(event.id, now);
      case 'formed':
        return this.#onFormed(event.id, event.formed, now);
      case 'ready':
        return this.#onReady(event.id, event.ready, now);
      case 'prepared':
        return this.#onPrepared(event.id, event.prepared, now);
      case 'applied':
        return this.#onApplied(event.id, event.applied);
      case 'validated': {
        if (this.#generation === null) return [];
        const validation = this.#steps.validated(this.#generation, event.id, event.validated);
        return [...validation, ...this.#endIfDone()];
      }
      case 'saved':
        return [...this.#steps.saved(event.id, event.saved), ...this.#release(), ...this.#endIfDone()];
      case 'notSaved': {
        const { step, failure } = event.notSaved;
        if (!this.#steps.checkpoints.awaits(step, event.id)) return [];
        return this.#notSaved(step, faultFrom(failure ?? { code: '', message: '', hint: '' }));
      }
      case 'saving':
        this.#generation?.writing(now);
        return [];
      case 'published':
        return [...this.#steps.published(event.checkpoint, this.#generation), ...this.#endIfDone()];
      case 'notPublished':
        return this.#notSaved(event.step, event.fault);
      case 'finished':
        return this.#onFinished(event.id);
      case 'heartbeat':
        return [];
      case 'lost':
        if (!this.#settings.supervised || this.#goesOnWithout(event.id)) {
          return this.#lost(event.id, event.reason, now);
        }
        this.#loss = { id: event.id, reason: event.reason, at: now };
        return [];
      case 'failure': {
        const { code, message, hint } = faultFrom(event.failure);
        return this.#fail(code, `${this.#name(event.id)}: ${message}`, hint);
      }
      case 'leave':
        return this.#onLeave(event.id, event.leave.exitCode, now);
      case 'stop':
        return this.#onStop(event.exitCode, event.reason, now);
      case 'actionFailed':
        return this.#failBy(this.#steps.checkpoints.resumable(event.fault));
      case 'tick':
        return this.#tick(now);
    }
  }

  // Who is here.

  #joined(event: Extract<Event, { type: 'joined' }>, now: number): Action[] {
    const { type: _, ...member } = event;
    const { id } = member;
    const { workers, maxWorkers, welcome } = this.#settings;
    const former = this.#members.has(id) ? this.#lost(id, 'it has joined again', now) : [];
    if (this.#over !== null) return former;
    if (this.#members.size >= maxWorkers) {
      const message = `worker ${id} is one too many: all ${maxWorkers} workers have joined`;
      return [...former, { type: 'refuse', id, message }];
    }
    this.#members.join(member, now);
    if (this.#generation === null && this.#members.size === workers) this.#rendezvous.begin(now);
    return [...former, this.#send([id], { welcome })];
  }

  #onStandby(id: string, now: number): Action[] {
    this.#members.standBy(id);
    const generation = this.#generation;
    if (generation === null) return this.#formIfFull(now);
    if (generation.place(id) !== null) return [];
    if (this.#rendezvous.standBy(generation.places, now)) return [];
    const slots = counted(this.#settings.totalSlots, 'slot');
    return [{ type: 'note', message: `${this.#name(id)} stays on standby: all ${slots} have a worker` }];
  }

  /** It stays until it is released, so that a signal to all workers still ends with a checkpoint. */
  #onLeave(id: string, exitCode: number, now: number): Action[] {
    const code = isStopCode(exitCode) ? exitCode : SIGNAL_EXIT.SIGTERM;
    this.#members.wantsToLeave(id, code);
    if (this.#stop !== null || this.#members.staying < this.#least) {
      return this.#onStop(code, this.#stoppedBy(id, code), now);
    }
    const released = this.#release();
    if (released.length > 0) return released;
    return [{ type: 'note', message: `${this.#name(id)} leaves after the step` }];
  }

  /** Lets those go that have asked to leave and are not needed: for a step, for their state, for a checkpoint. */
  #release(): Action[] {
    const generation = this.#generation;
    const isFree = ({ id, holds }: { id: string; holds: boolean }) =>
      (generation === null ? !holds : generation.place(id) === null) && !this.#steps.checkpoints.isWriter(id);
    return this.#members.leaving.filter(isFree).map(({ id, exitCode }) => {
      this.#members.leave(id);
      return this.#send([id], { stop: { exitCode } });
    });
  }

  #lost(id: string, reason: string, now: number): Action[] {
    return this.#depart(id, `Lost ${this.#name(id)}${this.#where()}: ${reason}`, now);
  }

  #exited(id: string, exit: Exit, now: number): Action[] {
    const isMember = this.#members.has(id);
    if (!isMember && this.#generation !== null) {
      // The end of its session was noticed before.
      return [{ type: 'note', message: `${this.#name(id)} ${describeExit(exit)}` }];
    }
    // Before the first step there is nothing to save.
    const stopCode = this.#begun ? null : stopCodeOf(exit);
    if (stopCode !== null) return this.#end({ exitCode: stopCode, reason: this.#stoppedBy(id, stopCode) });
    const where = isMember ? this.#where() : ' before it joined';
    return this.#depart(id, `${this.#name(id)} ${describeExit(exit, where)}`, now);
  }

  /** A worker is gone. The others form the next generation at once; if they are too few, others are waited for. */
  #depart(id: string, message: string, now: number): Action[] {
    const generation = this.#generation;
    const place = generation?.place(id) ?? null;
    const goesOn = this.#goesOnWithout(id);
    this.#members.leave(id);
    const isNeeded = this.#isNeeded(id);
    const { checkpoints, committed } = this.#steps;
    const lost = checkpoints.leave(id, committed);
    if (place !== null && !isNeeded) return [];
    if (!goesOn) return this.#fail('ERR_WORKER_LOST', message, checkpoints.resumption());
    const tell = (what: string): Action[] => [{ type: 'note', message: `${message}${what}` }, ...lost];
    if (generation === null) return [...tell(''), ...this.#formIfFull(now)];
    if (place === null) return [...tell(''), ...this.#endIfDone()];
    const next = this.#rendezvous.next;
    if (next.length >= this.#least) {
      const others = next.length === 1 ? '1 worker goes on' : `${next.length} workers go on`;
      return [...tell(`; ${others}`), ...this.#form(next, now)];
    }
    this.#generation = null;
    this.#rendezvous.resume({ code: 'ERR_WORKER_LOST', message, hint: checkpoints.resumption() }, now);
    const { minWorkers, patienceMs } = this.#settings;
    return tell(`; waiting up to ${patienceMs / 1000} s for at least ${counted(minWorkers, 'worker')}`);
  }

  /** Whether the member has something to do for the run that is not done. */
  #isNeeded(id: string): boolean {
    return (this.#generation?.owes(id) ?? true) || this.#steps.checkpoints.isWriter(id);
  }

  /** Whether the run goes on when this worker is gone. */
  #goesOnWithout(id: string): boolean {
    if (this.#settings.patienceMs > 0) return true;
    const place = this.#generation?.place(id) ?? null;
    if (place !== null && !this.#isNeeded(id)) return true;
    if (this.#generation === null) return false;
    return place === null || this.#members.standby.filter((other) => other.id !== id).length >= this.#least;
  }

  get #least(): number {
    return this.#rendezvous.least(this.#stop !== null);
  }

  // Generations.

  #formIfFull(now: number): Action[] {
    if (!this.#rendezvous.isFull(now)) return [];
    return this.#form(this.#rendezvous.next, now);
  }

  /** Begins the next generation, which ends the one before. */
  #form(members: readonly Member[], now: number): Action[] {
    const { committed, checkpoints } = this.#steps;
    const lost = checkpoints.regroup(committed);
    const generation = new Generation(++this.#lastGeneration, members, this.#settings.totalSlots, now);
    this.#generation = generation;
    this.#rendezvous.formed();
    const { number, places } = generation;
    return [
      ...lost,
      { type: 'journal', generation: number, workers: places, step: committed },
      ...places.map(({ id, rank }) => generation.send({ form: { members: [...places], rank } }, [id])),
      ...this.#release(),
    ];
  }

  #onFormed(id: string, formed: Formed, now: number): Action[] {
    const generation = this.#generation;
    if (generation?.at('FORMING') !== 'now') return this.#late(id, 'FORMING', 'Formed');
    const answers = generation.formed.add(id, formed);
    if (answers === null) return [];
    const held = answers.map((answer) => answer.held?.step ?? null);
    const source = sourceOf(held, this.#steps.committed, this.#steps.checkpoints.last);
    generation.sync(source, now);
    const devices = answers.flatMap(({ device }) => device ?? []);
    return generation.places.map(({ id, rank }) =>
      generation.send({ sync: { ...source.syncs[rank], devices } }, [id]),
    );
  }

  #onReady(id: string, ready: Ready, now: number): Action[] {
    const generation = this.#generation;
    if (generation?.at('SYNCING') !== 'now') return this.#late(id, 'SYNCING', 'Ready');
    const answers = generation.ready.add(id, ready);
    if (answers === null) return [];
    const { from } = generation;
    const { configHash } = this.#settings;
    const fault = judgeReady(generation.named(answers), { configHash, step: from });
    if (fault !== null) return this.#failBy(fault);
    this.#members.hold(generation.places);
    const start = this.#steps.start(generation, this.#stop !== null, now);
    return [{ type: 'started', firstStep: from + 1, ready: answers }, ...start];
  }

  // Steps.

  #onPrepared(id: string, prepared: Prepared, now: number): Action[] {
    const generation = this.#generation;
    const { step } = prepared;
    if (generation?.at('RUNNING') !== 'now' || step > generation.step) {
      return this.#late(id, 'RUNNING', `Prepared of step ${step}`);
    }
    const answers = step === generation.step ? generation.prepared.add(id, prepared) : null;
    if (answers === null) return [];
    const fault = judgePrepared(generation.named(answers), this.#settings.totalSlots);
    return fault === null ? this.#commit(generation, answers, now) : this.#failBy(fault);
  }

  #commit(generation: Generation, prepared: Prepared[], now: number): Action[] {
    const stopping = this.#stop !== null;
    const regroups =
      !stopping &&
      generation.step < this.#settings.steps &&
      this.#rendezvous.regroups(generation.places, now);
    const actions = this.#steps.commit(generation, prepared, { stopping, regroups }, now);
    if (!Array.isArray(actions)) return this.#failBy(actions);
    if (!regroups) return actions;
    return [...actions, ...this.#form(this.#rendezvous.next, now)];
  }

  #onApplied(id: string, { step, stateHash }: { step: number; stateHash: string }): Action[] {
    if (this.#generation === null) return [];
    const actions = this.#steps.applied(this.#generation, id, step, stateHash);
    return Array.isArray(actions) ? [...actions, ...this.#endIfDone()] : this.#failBy(actions);
  }

  #notSaved(step: number, fault: Fault): Action[] {
    return [...this.#steps.notSaved(step, fault), ...this.#release(), ...this.#endIfDone()];
  }

  #onFinished(id: string): Action[] {
    const generation = this.#generation;
    if (generation?.at('CHECKPOINTING') !== 'now') return this.#late(id, 'CHECKPOINTING', 'Finished');
    generation.finished.add(id, true);
    return this.#endIfDone();
  }

  // The end.

  /** Ends the run when all workers have finished and the last checkpoint is published. */
  #endIfDone(): Action[] {
    const { outcome } = this.#steps;
    if (outcome === 'open') return [];
    if (outcome !== 'done') return this.#failBy(outcome);
    const done = { exitCode: EXIT.done, reason: `All ${this.#settings.steps} steps are done` };
    const ends = this.#generation?.stage === 'CHECKPOINTING' && this.#generation.settled;
    return ends ? this.#end(this.#stop ?? done) : [];
  }

  #onStop(exitCode: number, reason: string, now: number): Action[] {
    // The workers abandon a validation, also the one that follows the last step.
    const drain = this.#send(null, { drain: {} });
    const phase = this.phase;
    if (phase === 'CHECKPOINTING') {
      // The last step is committed: the run ends as it would have.
      return [drain];
    }
    if (this.#stop !== null) {
      // systemd sends SIGTERM and SIGHUP together, and the order in which they arrive is not that of sending.
      if (exitCode === SIGNAL_EXIT.SIGTERM) this.#stop = { exitCode, reason };
      return [];
    }
    const next = this.#rendezvous.next;
    if (phase !== 'RUNNING' && !(this.#steps.unsaved && next.length > 0))
      return this.#end({ exitCode, reason });
    this.#stop = { exitCode, reason };
    const forms = this.#generation === null ? this.#form(next, now) : [];
    return [{ type: 'stopping', reason }, drain, ...forms];
  }

  #tick(now: number): Action[] {
    if (now - this.#lastTick > PAUSED_MS) {
      const gap = now - this.#lastTick;
      this.#rendezvous.paused(gap);
      this.#generation?.paused(gap);
    }
    this.#lastTick = now;
    const silent = this.#members.silent(now, this.#begun ? SILENT_MS.training : SILENT_MS.building);
    if (silent !== null) {
      const { id, ms } = silent;
      const reason = `no sign of life for ${(ms / 1000).toFixed(1)} s`;
      return [{ type: 'cut', id, reason }, ...this.#lost(id, reason, now)];
    }
    if (this.#generation !== null) {
      const fault = this.#generation.overdue(now);
      return fault === null ? [] : this.#failBy(fault);
    }
    if (!this.#listening) return [];
    const forms = this.#formIfFull(now);
    const wait = forms.length > 0 ? null : this.#rendezvous.check(now);
    if (wait === null) return forms;
    return 'fault' in wait ? this.#failBy(wait.fault) : [{ type: 'note', message: wait.note }];
  }

  /** A message that came too late or twice changes nothing. One that nobody could send yet is a fault. */
  #late(id: string, stage: Generation['stage'], what: string): Action[] {
    if (this.#generation === null || this.#generation.at(stage) === 'past') return [];
    return this.#fail(
      'ERR_PROTOCOL',
      `${this.#name(id)} sent ${what} while the run is ${this.phase}${this.#where()}`,
    );
  }

  #fail(code: ErrorCode, message: string, hint: string | null = null): Action[] {
    return this.#failBy({ code, message, hint });
  }

  #failBy(fault: Fault): Action[] {
    return this.#end({ exitCode: EXIT.failed, reason: fault.message }, fault);
  }

  #end(ending: Ending, fault: Fault | null = null): Action[] {
    if (fault !== null) this.#over = 'FAILED';
    else this.#over = ending.exitCode === EXIT.done ? 'DONE' : 'STOPPED';
    return [this.#send(null, { stop: { exitCode: ending.exitCode } }), { type: 'end', ...ending, fault }];
  }

  #send(to: readonly string[] | null, message: FromCoordinator): Action {
    return { type: 'send', to, message: { generation: this.#lastGeneration, ...message } };
  }

  /** The first step has begun. */
  get #begun(): boolean {
    return this.#steps.committed > this.#settings.resumeStep || (this.#generation?.step ?? 0) > 0;
  }

  #name(id: string): string {
    const known = this.#generation?.place(id) ?? this.#members.get(id);
    return known === null ? `worker ${id}` : nameOf(known);
  }

  /** Named first is the signal: it may have been sent to all processes, of which a worker is the first heard. */
  #stoppedBy(id: string, exitCode: number): string {
    return `received ${signalOfCode(exitCode)} (first heard from ${this.#name(id)})`;
  }

  #where(): string {
    return this.#begun ? ` at step ${this.#generation?.step || this.#steps.committed + 1}` : '';
  }
}

/** A worker's Failure. */
function faultFrom({ code, message, hint }: { code: string; message: string; hint: string }): Fault {
  return { code: isErrorCode(code) ? code : 'ERR_INTERNAL', message, hint: hint === '' ? null : hint };
}
