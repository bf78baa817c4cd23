/**
 * The rule of a run, without processes, sockets, files and clocks: it takes events and returns actions. The
 * caller carries out the actions in order, and completes each before the next, so that a step is recorded
 * before the workers hear of it.
 *
 * Steps and what is ordered after them belong to the run. Everything else belongs to a generation.
 */
import { type ErrorCode, EXIT } from '../errors.js';
import { type Fault, isErrorCode } from '../fault.js';
import type { DeviceRendezvous, FromCoordinator, Prepared, Ready, Saved, Validated } from '../rpc/proto.js';
import { describeExit, type Exit, isStopCode, SIGNAL_EXIT, signalOfCode, stopCodeOf } from '../signals.js';
import type { Action, Event, Member, Phase, Place, Settings } from './events.js';
import { Generation } from './generation.js';
import { judgePrepared, judgeReady } from './judge.js';
import { Members, nameOf } from './members.js';
import { ordersAfter } from './orders.js';
import { PendingCheckpoints } from './pending-checkpoints.js';
import { Rendezvous } from './rendezvous.js';

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
  readonly #members = new Members();
  readonly #rendezvous: Rendezvous;
  readonly #checkpoints: PendingCheckpoints;
  #listening = false;
  /** The number of the last generation. */
  #lastGeneration: number;
  #generation: Generation | null = null;
  /** Why the checkpoint of the last step was not written; null: it was, or is being written. */
  #lastFailure: Fault | null = null;
  #lastTick = 0;
  /** A worker whose session has ended, while the launcher's word is awaited. */
  #loss: { id: string; reason: string; at: number } | null = null;
  /** The run was asked to stop while it trains. */
  #stop: Ending | null = null;
  #over: Extract<Phase, 'DONE' | 'STOPPED' | 'FAILED'> | null = null;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#rendezvous = new Rendezvous(settings.workers);
    this.#checkpoints = new PendingCheckpoints(settings);
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
    if (event.type === 'exited') return this.#exited(event.id, event.exit);
    if (this.#loss !== null && !['saved', 'published', 'actionFailed'].includes(event.type)) {
      const { id, reason, at } = this.#loss;
      return now - at > LAUNCHERS_WORD_MS ? this.#lost(id, reason) : [];
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
        return this.#onFormed(event.id, event.formed.device, now);
      case 'ready':
        return this.#onReady(event.id, event.ready, now);
      case 'prepared':
        return this.#onPrepared(event.id, event.prepared, now);
      case 'applied':
        return this.#onApplied(event.id, event.applied);
      case 'validated':
        return this.#onValidated(event.id, event.validated);
      case 'saved':
        return this.#onSaved(event.id, event.saved);
      case 'notSaved': {
        const { step, failure } = event.notSaved;
        if (!this.#checkpoints.has(step)) return this.#outOfOrder(event.id, `NotSaved of step ${step}`);
        return this.#notSaved(step, faultFrom(failure ?? { code: '', message: '', hint: '' }));
      }
      case 'saving':
        this.#generation?.writing(now);
        return [];
      case 'published':
        this.#checkpoints.published(event.checkpoint.step);
        return [{ type: 'saved', checkpoint: event.checkpoint }, ...this.#endIfDone()];
      case 'notPublished':
        return this.#notSaved(event.step, event.fault);
      case 'finished':
        return this.#onFinished(event.id);
      case 'heartbeat':
        return [];
      case 'lost':
        if (!this.#settings.supervised || this.#hasFinished(event.id)) {
          return this.#lost(event.id, event.reason);
        }
        this.#loss = { id: event.id, reason: event.reason, at: now };
        return [];
      case 'failure': {
        const { code, message, hint } = faultFrom(event.failure);
        return this.#fail(code, `${this.#name(event.id)}: ${message}`, hint);
      }
      case 'stopRequest': {
        const { exitCode } = event.stopRequest;
        const code = isStopCode(exitCode) ? exitCode : SIGNAL_EXIT.SIGTERM;
        return this.#onStop(code, this.#stoppedBy(event.id, code));
      }
      case 'stop':
        return this.#onStop(event.exitCode, event.reason);
      case 'actionFailed':
        return this.#failBy(this.#checkpoints.resumable(event.fault));
      case 'tick':
        return this.#tick(now);
    }
  }

  #joined(event: Extract<Event, { type: 'joined' }>, now: number): Action[] {
    const { type: _, ...member } = event;
    const { id } = member;
    const { workers, welcome } = this.#settings;
    if (this.#generation !== null || this.#members.size === workers) {
      const message = `worker ${id} is one too many: all ${workers} workers have joined`;
      return [{ type: 'refuse', id, message }];
    }
    this.#members.join(member, now);
    if (this.#members.size === workers) this.#rendezvous.begin(now);
    return [this.#send(id, { welcome })];
  }

  #onStandby(id: string, now: number): Action[] {
    if (this.#generation !== null || !this.#members.standBy(id)) return this.#outOfOrder(id, 'Standby');
    const { standby } = this.#members;
    return standby.length === this.#settings.workers ? this.#form(standby, now) : [];
  }

  #form(members: readonly Member[], now: number): Action[] {
    const generation = new Generation(++this.#lastGeneration, members, this.#settings.totalSlots, now);
    this.#generation = generation;
    const { number, places } = generation;
    return [
      { type: 'journal', generation: number, workers: places, step: this.#settings.resumeStep },
      ...places.map(({ id, rank }) => this.#send(id, { form: { members: [...places], rank } })),
    ];
  }

  #onFormed(id: string, device: DeviceRendezvous | null, now: number): Action[] {
    const generation = this.#generation;
    if (generation?.stage !== 'FORMING') return this.#outOfOrder(id, 'Formed');
    const answers = generation.formed.add(id, device);
    if (answers === null) return [];
    generation.sync(now);
    const devices = answers.flatMap((answer) => answer ?? []);
    return [this.#send(null, { sync: { checkpoint: this.#settings.resumePath, devices } })];
  }

  #onReady(id: string, ready: Ready, now: number): Action[] {
    const generation = this.#generation;
    if (generation?.stage !== 'SYNCING') return this.#outOfOrder(id, 'Ready');
    const answers = generation.ready.add(id, ready);
    if (answers === null) return [];
    const fault = judgeReady(generation.named(answers), this.#settings);
    if (fault !== null) return this.#failBy(fault);
    const firstStep = this.#settings.resumeStep + 1;
    generation.start(firstStep, now);
    return [{ type: 'started', firstStep, ready: answers }, this.#send(null, { start: { firstStep } })];
  }

  #onPrepared(id: string, prepared: Prepared, now: number): Action[] {
    const generation = this.#generation;
    const { step } = prepared;
    const expected = generation?.stage === 'RUNNING' && generation.step === step;
    if (!expected || generation.prepared.has(id)) return this.#outOfOrder(id, `Prepared of step ${step}`);
    const answers = generation.prepared.add(id, prepared);
    if (answers === null) return [];
    const fault = judgePrepared(generation.named(answers), this.#settings.totalSlots);
    return fault === null ? this.#commit(generation, answers, now) : this.#failBy(fault);
  }

  /** All workers have computed the step with the same result, so it is committed. */
  #commit(generation: Generation, prepared: Prepared[], now: number): Action[] {
    const { step } = generation;
    const due = ordersAfter(step, this.#stop !== null, this.#settings);
    // A disk that is slower than `checkpoint.every` must not hold up training; only the last checkpoint waits.
    const { writing } = this.#checkpoints;
    const skips = due.checkpoint && !due.stop && writing !== null;
    const orders = { ...due, checkpoint: due.checkpoint && !skips };
    generation.commit(orders, now);
    if (orders.checkpoint) this.#checkpoints.request(step);
    const commit: Action = { type: 'commit', step, prepared };
    const record: Action = { type: 'record', step, prepared };
    const send = this.#send(null, { commit: orders });
    // The workers wait for this message; metrics are recorded while they update.
    if (orders.checkpoint) return [commit, record, { type: 'syncRecords', step }, send];
    return [commit, send, record, ...(skips ? [skipped(step, writing)] : [])];
  }

  /** All Applied of a step come before the next commit, because a worker sends them before its next Prepared. */
  #onApplied(id: string, { step, stateHash }: { step: number; stateHash: string }): Action[] {
    const generation = this.#generation;
    if (generation === null) return this.#outOfOrder(id, `Applied of step ${step}`);
    const other = generation.applied.dissenter(stateHash);
    if (other !== null) {
      return this.#fail(
        'ERR_STATE_MISMATCH',
        `The state of ${this.#name(id)} and of ${nameOf(other)} differ after step ${step}; its checkpoint is discarded`,
        `${this.#checkpoints.resumption()}. One of the machines may have faulty memory or a faulty processor`,
      );
    }
    return generation.applied.add(id, stateHash) === null ? [] : this.#checkpoints.agree(step);
  }

  #onSaved(id: string, saved: Saved): Action[] {
    if (!this.#checkpoints.has(saved.step) || this.#generation?.place(id)?.rank !== 0) {
      return this.#outOfOrder(id, `Saved of step ${saved.step}`);
    }
    return this.#checkpoints.stage(saved);
  }

  /** Without the last checkpoint the run has failed; without another one it goes on. */
  #notSaved(step: number, fault: Fault): Action[] {
    this.#checkpoints.failed(step);
    const generation = this.#generation;
    if (generation?.stage === 'CHECKPOINTING' && generation.step === step) {
      this.#lastFailure = fault;
      return this.#endIfDone();
    }
    const told = this.#checkpoints.resumable(fault, 'Training goes on. ');
    return [{ type: 'notSaved', missed: { step, reason: 'failed', fault: told } }, ...this.#endIfDone()];
  }

  #onValidated(id: string, validated: Validated): Action[] {
    const parts = this.#generation?.validated.add(id, validated) ?? null;
    return parts === null ? [] : [{ type: 'validation', step: validated.step, parts }];
  }

  #onFinished(id: string): Action[] {
    if (this.#generation?.stage !== 'CHECKPOINTING') return this.#outOfOrder(id, 'Finished');
    this.#generation.finished.add(id, true);
    return this.#endIfDone();
  }

  #hasFinished(id: string): boolean {
    return this.#generation?.finished.has(id) ?? false;
  }

  /**
   * Ends the run when all workers have finished and the last checkpoint is published. If it failed, the run
   * fails as soon as those before it are published, because one of them is what the run resumes from.
   */
  #endIfDone(): Action[] {
    if (this.#checkpoints.writing !== null) return [];
    if (this.#lastFailure !== null) return this.#failBy(this.#checkpoints.resumable(this.#lastFailure));
    const { steps } = this.#settings;
    const done = { exitCode: EXIT.done, reason: `All ${steps} steps are done` };
    return this.#generation?.finished.missing.length === 0 ? this.#end(this.#stop ?? done) : [];
  }

  #lost(id: string, reason: string): Action[] {
    return this.#leave(id, `Lost ${this.#name(id)}${this.#where()}: ${reason}`);
  }

  #exited(id: string, exit: Exit): Action[] {
    const isMember = this.#members.has(id);
    if (!isMember && this.phase !== 'JOINING') return [];
    // Before the first step there is nothing to save.
    const stopCode = this.#begun ? null : stopCodeOf(exit);
    if (stopCode !== null) return this.#end({ exitCode: stopCode, reason: this.#stoppedBy(id, stopCode) });
    const where = isMember ? this.#where() : ' before it joined';
    return this.#leave(id, `${this.#name(id)} ${describeExit(exit, where)}`);
  }

  /** A worker is gone: that ends the run, unless it has finished. */
  #leave(id: string, message: string): Action[] {
    this.#members.leave(id);
    if (this.#hasFinished(id)) return [];
    return this.#fail('ERR_WORKER_LOST', message, this.#checkpoints.resumption());
  }

  #onStop(exitCode: number, reason: string): Action[] {
    // The workers abandon a validation, also the one that follows the last step.
    const drain = this.#send(null, { drain: {} });
    switch (this.phase) {
      case 'RUNNING':
        this.#stop = { exitCode, reason };
        return [{ type: 'stopping', reason }, drain];
      case 'DRAINING':
        // systemd sends SIGTERM and SIGHUP together, and the order in which they arrive is not that of sending.
        if (exitCode === SIGNAL_EXIT.SIGTERM) this.#stop = { exitCode, reason };
        return [];
      case 'CHECKPOINTING':
        // The last step is committed: the run ends as it would have.
        return [drain];
      default:
        return this.#end({ exitCode, reason });
    }
  }

  #tick(now: number): Action[] {
    if (now - this.#lastTick > PAUSED_MS) {
      const gap = now - this.#lastTick;
      this.#members.paused(gap);
      this.#rendezvous.paused(gap);
      this.#generation?.paused(gap);
    }
    this.#lastTick = now;
    const silent = this.#members.silent(now, this.#begun ? SILENT_MS.training : SILENT_MS.building);
    if (silent !== null) {
      return this.#lost(silent.id, `no sign of life for ${(silent.ms / 1000).toFixed(1)} s`);
    }
    if (this.#generation !== null) {
      const fault = this.#generation.overdue(now);
      return fault === null ? [] : this.#failBy(fault);
    }
    const wait = this.#listening ? this.#rendezvous.check(this.#members, now) : null;
    if (wait === null) return [];
    return 'fault' in wait ? this.#failBy(wait.fault) : [{ type: 'note', message: wait.note }];
  }

  #outOfOrder(id: string, what: string): Action[] {
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

  #send(to: string | null, message: FromCoordinator): Action {
    return { type: 'send', to, message: { generation: this.#lastGeneration, ...message } };
  }

  /** The first step has begun. */
  get #begun(): boolean {
    return (this.#generation?.step ?? 0) > 0;
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
    return this.#begun ? ` at step ${this.#generation!.step}` : '';
  }
}

function skipped(step: number, writing: number): Action {
  const message = `No checkpoint of step ${step}: that of step ${writing} is still being written; training goes on`;
  const hint = 'If the disk cannot be faster, raise checkpoint.every';
  const fault = { code: 'ERR_CHECKPOINT_WRITE', message, hint } as const;
  return { type: 'notSaved', missed: { step, reason: 'skipped', fault } };
}

/** A worker's Failure. */
function faultFrom({ code, message, hint }: { code: string; message: string; hint: string }): Fault {
  return { code: isErrorCode(code) ? code : 'ERR_INTERNAL', message, hint: hint === '' ? null : hint };
}
