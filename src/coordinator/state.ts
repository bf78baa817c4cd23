/**
 * The state machine of a run, without processes, sockets, files and clocks: it takes events and returns
 * actions. The caller carries out the actions in order, and completes each before the next, so that a step is
 * recorded before the workers hear of it.
 */
import { type ErrorCode, EXIT } from '../errors.js';
import { type Fault, isErrorCode } from '../fault.js';
import type { DeviceRendezvous, FromCoordinator, Prepared, Ready, Saved, Validated } from '../rpc/proto.js';
import { describeExit, type Exit, isStopCode, SIGNAL_EXIT, signalOfCode, stopCodeOf } from '../signals.js';
import { assignSlots } from '../step/assignment.js';
import type { Action, Event, Phase, Settings, Worker } from './events.js';
import { type Answer, judgePrepared, judgeReady } from './judge.js';
import { PendingCheckpoints } from './pending-checkpoints.js';

/** A worker silent for this long counts as dead. Building a large model may block its event loop. */
const SILENT_MS = { training: 3_000, building: 60_000 };
/** A longer gap between ticks means that this process was paused, not the workers. */
const PAUSED_MS = 1_000;
const JOIN_MS = 60_000;
/** Time limit for opening the data and building the engines. Heartbeats tell meanwhile who is alive. */
const BUILD_MS = 1_800_000;
/** From here on the user is told who is still building, at doubling times. */
const SLOW_BUILD_MS = 30_000;
const FORM_MS = 90_000;
const PREPARE_STATE_MS = 1_800_000;
/** Time limit of the first step and of those after a validation. */
const SLOW_STEP_MS = 1_800_000;
/** Time limit of the other steps: at least this, or this multiple of the longest step so far. */
const STEP_MS = 120_000;
const STEP_MULTIPLE = 30;
/**
 * When a worker's session has ended, the launcher may know why, and says so within moments. It says nothing if
 * the process is alive.
 */
const LAUNCHERS_WORD_MS = 3_000;

/** Fails the run if the wait has taken longer than this. */
type Limit = (ms: number, code: ErrorCode, message: string) => Action[];

/** One run, from joining to its end. */
export class RunState {
  #phase: Phase = 'INIT';
  #generation: number;
  readonly #settings: Settings;
  readonly #workers = new Map<string, Worker>();
  readonly #seen = new Map<string, number>();
  /** Workers that have built their engines. */
  readonly #standby = new Set<string>();
  /** When to tell the user next who is still building, in milliseconds since all joined. */
  #nextBuildNote = SLOW_BUILD_MS;
  /** Answers of the current phase or step, by worker. */
  #formed = new Map<string, DeviceRendezvous | null>();
  #ready = new Map<string, Ready>();
  #prepared = new Map<string, Prepared>();
  #applied = new Map<string, string>();
  #validated = new Map<string, Validated>();
  #finished = new Set<string>();
  readonly #checkpoints: PendingCheckpoints;
  /** Why the checkpoint of the last step was not written; null: it was, or is being written. */
  #lastFailure: Fault | null = null;
  /** The step that is being computed; 0 before the first. */
  #step = 0;
  /** When the phase began, or while training the step. */
  #since = 0;
  #longestStep = 0;
  #slowStep = true;
  #lastTick = 0;
  /** A worker whose session has ended, while the launcher's word is awaited. */
  #loss: { id: string; reason: string; at: number } | null = null;
  /** How the run ends unless it fails. */
  #ending: { exitCode: number; reason: string };

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#checkpoints = new PendingCheckpoints(settings);
    this.#generation = settings.lastGeneration;
    this.#ending = { exitCode: EXIT.done, reason: `All ${settings.steps} steps are done` };
  }

  get phase(): Phase {
    return this.#phase;
  }

  get generation(): number {
    return this.#generation;
  }

  /** The workers, in the order of their ranks once the generation is formed. */
  get workers(): Worker[] {
    return [...this.#workers.values()].sort((a, b) => a.rank - b.rank);
  }

  /** @param now Milliseconds of any monotonic clock. */
  handle(event: Event, now: number): Action[] {
    if (this.#phase === 'DONE' || this.#phase === 'STOPPED' || this.#phase === 'FAILED') return [];
    if (event.type === 'exited') return this.#exited(event.id, event.exit);
    if (this.#loss !== null && !['saved', 'published', 'actionFailed'].includes(event.type)) {
      const { id, reason, at } = this.#loss;
      return now - at > LAUNCHERS_WORD_MS ? this.#lost(id, reason) : [];
    }
    if ('id' in event && event.type !== 'joined') {
      if (!this.#workers.has(event.id)) return [];
      this.#seen.set(event.id, now);
    }
    switch (event.type) {
      case 'listening':
        this.#enter('JOINING', now);
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
        if (this.#phase === 'CHECKPOINTING') this.#since = now;
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
        if (!this.#settings.supervised || this.#finished.has(event.id)) {
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
    const { type: _, ...worker } = event;
    const { id } = worker;
    if (this.#phase !== 'JOINING' || this.#allJoined) {
      const message = `worker ${id} is one too many: all ${this.#settings.workers} workers have joined`;
      return [{ type: 'refuse', id, message }];
    }
    this.#workers.set(id, { ...worker, rank: -1, firstSlot: 0, endSlot: 0 });
    this.#seen.set(id, now);
    // From now on they have the time to build.
    if (this.#allJoined) this.#since = now;
    return [this.#send(id, { welcome: this.#settings.welcome })];
  }

  get #allJoined(): boolean {
    return this.#workers.size === this.#settings.workers;
  }

  #onStandby(id: string, now: number): Action[] {
    if (this.#phase !== 'JOINING' || this.#standby.has(id)) return this.#outOfOrder(id, 'Standby');
    this.#standby.add(id);
    return this.#standby.size === this.#settings.workers ? this.#form(now) : [];
  }

  #form(now: number): Action[] {
    this.#generation++;
    this.#enter('FORMING', now);
    const slots = assignSlots(this.#settings.totalSlots, this.#settings.workers);
    const byId = (a: Worker, b: Worker) => a.id.localeCompare(b.id, 'en', { numeric: true });
    for (const [rank, worker] of [...this.#workers.values()].sort(byId).entries()) {
      const { lo, hi } = slots[rank]!;
      Object.assign(worker, { rank, firstSlot: lo, endSlot: hi });
    }
    const members = this.workers;
    return [
      { type: 'journal', generation: this.#generation, workers: members, step: this.#settings.resumeStep },
      ...members.map(({ id, rank }) => this.#send(id, { form: { members, rank } })),
    ];
  }

  #onFormed(id: string, device: DeviceRendezvous | null, now: number): Action[] {
    if (this.#phase !== 'FORMING') return this.#outOfOrder(id, 'Formed');
    const answers = this.#collect(this.#formed, id, device);
    if (answers === null) return [];
    this.#enter('SYNCING', now);
    const devices = answers.flatMap((answer) => answer ?? []);
    return [this.#send(null, { sync: { checkpoint: this.#settings.resumePath, devices } })];
  }

  #onReady(id: string, ready: Ready, now: number): Action[] {
    if (this.#phase !== 'SYNCING') return this.#outOfOrder(id, 'Ready');
    const answers = this.#collect(this.#ready, id, ready);
    if (answers === null) return [];
    const fault = judgeReady(this.#named(answers), this.#settings);
    if (fault !== null) return this.#failBy(fault);
    const firstStep = this.#settings.resumeStep + 1;
    this.#enter('RUNNING', now);
    this.#step = firstStep;
    return [{ type: 'started', firstStep, ready: answers }, this.#send(null, { start: { firstStep } })];
  }

  #onPrepared(id: string, prepared: Prepared, now: number): Action[] {
    const computing = this.#phase === 'RUNNING' || this.#phase === 'DRAINING';
    if (!computing || prepared.step !== this.#step || this.#prepared.has(id)) {
      return this.#outOfOrder(id, `Prepared of step ${prepared.step}`);
    }
    const answers = this.#collect(this.#prepared, id, prepared);
    if (answers === null) return [];
    const fault = judgePrepared(this.#named(answers), this.#settings.totalSlots);
    return fault === null ? this.#commit(answers, now) : this.#failBy(fault);
  }

  /** All workers have computed the step with the same result, so it is committed. */
  #commit(prepared: Prepared[], now: number): Action[] {
    const step = this.#step;
    const { steps, checkpointEvery, validateEvery } = this.#settings;
    const last = step === steps;
    const stopped = this.#phase === 'DRAINING';
    const due = (every: number) => every > 0 && step % every === 0;
    const stop = last || stopped;
    // A disk that is slower than `checkpoint.every` must not hold up training; only the last checkpoint waits.
    const { writing } = this.#checkpoints;
    const checkpoint = stop || (due(checkpointEvery) && writing === null);
    const skipped = due(checkpointEvery) && !checkpoint ? this.#skipped(step, writing!) : [];
    // A run that is asked to stop may have seconds left.
    const validate = validateEvery > 0 && (last || due(validateEvery)) && !stopped;
    this.#longestStep = Math.max(this.#longestStep, this.#slowStep ? 0 : now - this.#since);
    this.#slowStep = validate;
    this.#prepared.clear();
    this.#applied.clear();
    this.#validated.clear();
    this.#enter(stop ? 'CHECKPOINTING' : this.#phase, now);
    if (!stop) this.#step++;
    if (checkpoint) this.#checkpoints.request(step);
    const commit: Action = { type: 'commit', step, prepared };
    const record: Action = { type: 'record', step, prepared, validate };
    const send = this.#send(null, { commit: { validate, checkpoint, stop } });
    // The workers wait for this message; metrics are recorded while they update.
    if (checkpoint) return [commit, record, { type: 'syncRecords', step }, send];
    return [commit, send, record, ...skipped];
  }

  #skipped(step: number, writing: number): Action[] {
    const message = `No checkpoint of step ${step}: that of step ${writing} is still being written; training goes on`;
    const hint = 'If the disk cannot be faster, raise checkpoint.every';
    return [
      {
        type: 'notSaved',
        missed: { step, reason: 'skipped', fault: { code: 'ERR_CHECKPOINT_WRITE', message, hint } },
      },
    ];
  }

  /** All Applied of a step come before the next commit, because a worker sends them before its next Prepared. */
  #onApplied(id: string, { step, stateHash }: { step: number; stateHash: string }): Action[] {
    const answers = this.#collect(this.#applied, id, stateHash);
    const [[firstId, first] = ['', '']] = this.#applied;
    if (stateHash !== first) {
      return this.#fail(
        'ERR_STATE_MISMATCH',
        `The state of ${this.#name(id)} and of ${this.#name(firstId)} differ after step ${step}; its checkpoint is discarded`,
        `${this.#checkpoints.resumption()}. One of the machines may have faulty memory or a faulty processor`,
      );
    }
    return answers === null ? [] : this.#checkpoints.agree(step);
  }

  #onSaved(id: string, saved: Saved): Action[] {
    if (!this.#checkpoints.has(saved.step) || this.#workers.get(id)?.rank !== 0) {
      return this.#outOfOrder(id, `Saved of step ${saved.step}`);
    }
    return this.#checkpoints.stage(saved);
  }

  /** Without the last checkpoint the run has failed; without another one it goes on. */
  #notSaved(step: number, fault: Fault): Action[] {
    this.#checkpoints.failed(step);
    if (this.#phase === 'CHECKPOINTING' && step === this.#step) {
      this.#lastFailure = fault;
      return this.#endIfDone();
    }
    const told = this.#checkpoints.resumable(fault, 'Training goes on. ');
    return [{ type: 'notSaved', missed: { step, reason: 'failed', fault: told } }, ...this.#endIfDone()];
  }

  #onValidated(id: string, validated: Validated): Action[] {
    const parts = this.#collect(this.#validated, id, validated);
    return parts === null ? [] : [{ type: 'validation', step: validated.step, parts }];
  }

  #onFinished(id: string): Action[] {
    if (this.#phase !== 'CHECKPOINTING') return this.#outOfOrder(id, 'Finished');
    this.#finished.add(id);
    return this.#endIfDone();
  }

  /**
   * Ends the run when all workers have finished and the last checkpoint is published. If it failed, the run
   * fails as soon as those before it are published, because one of them is what the run resumes from.
   */
  #endIfDone(): Action[] {
    if (this.#checkpoints.writing !== null) return [];
    if (this.#lastFailure !== null) return this.#failBy(this.#checkpoints.resumable(this.#lastFailure));
    return this.#finished.size === this.#settings.workers ? this.#end(this.#ending) : [];
  }

  #lost(id: string, reason: string): Action[] {
    return this.#leave(id, `Lost ${this.#name(id)}${this.#where()}: ${reason}`);
  }

  #exited(id: string, exit: Exit): Action[] {
    const isMember = this.#workers.has(id);
    if (!isMember && this.#phase !== 'JOINING') return [];
    // Before the first step there is nothing to save.
    const stopCode = this.#step === 0 ? stopCodeOf(exit) : null;
    if (stopCode !== null) return this.#end({ exitCode: stopCode, reason: this.#stoppedBy(id, stopCode) });
    const where = isMember ? this.#where() : ' before it joined';
    return this.#leave(id, `${this.#name(id)} ${describeExit(exit, where)}`);
  }

  /** A worker is gone: that ends the run, unless it has finished. */
  #leave(id: string, message: string): Action[] {
    this.#workers.delete(id);
    if (this.#finished.has(id)) return [];
    return this.#fail('ERR_WORKER_LOST', message, this.#checkpoints.resumption());
  }

  #onStop(exitCode: number, reason: string): Action[] {
    // The workers abandon a validation, also the one that follows the last step.
    const drain = this.#send(null, { drain: {} });
    switch (this.#phase) {
      case 'RUNNING':
        this.#ending = { exitCode, reason };
        this.#phase = 'DRAINING';
        return [{ type: 'stopping', reason }, drain];
      case 'DRAINING':
        // systemd sends SIGTERM and SIGHUP together, and the order in which they arrive is not that of sending.
        if (exitCode === SIGNAL_EXIT.SIGTERM) this.#ending = { exitCode, reason };
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
      for (const [id, seen] of this.#seen) this.#seen.set(id, seen + gap);
      this.#since += gap;
    }
    this.#lastTick = now;
    const limit = this.#step === 0 ? SILENT_MS.building : SILENT_MS.training;
    for (const [id] of this.#workers) {
      const silent = now - (this.#seen.get(id) ?? now);
      if (silent > limit) return this.#lost(id, `no sign of life for ${(silent / 1000).toFixed(1)} s`);
    }
    return this.#checkProgress(now);
  }

  /** Fails the run if the current phase or step has taken too long. */
  #checkProgress(now: number): Action[] {
    const missing = (answered: { has(id: string): boolean }) =>
      this.workers
        .filter(({ id }) => !answered.has(id))
        .map(({ id }) => this.#name(id))
        .join(', ');
    const waited = now - this.#since;
    const limit: Limit = (ms, code, message) => (waited > ms ? this.#fail(code, message) : []);
    switch (this.#phase) {
      case 'JOINING': {
        if (this.#allJoined) return this.#checkBuilding(waited, limit, missing(this.#standby));
        const count = `${this.#workers.size} of ${this.#settings.workers} workers`;
        return limit(JOIN_MS, 'ERR_JOIN_TIMEOUT', `${count} joined within ${JOIN_MS / 1000} s`);
      }
      case 'FORMING': {
        const message = `These workers could not connect to their peers in time: ${missing(this.#formed)}`;
        return limit(FORM_MS, 'ERR_JOIN_TIMEOUT', message);
      }
      case 'SYNCING': {
        const message = `These workers were not ready in time: ${missing(this.#ready)}`;
        return limit(PREPARE_STATE_MS, 'ERR_JOIN_TIMEOUT', message);
      }
      case 'RUNNING':
      case 'DRAINING': {
        const ms = this.#slowStep ? SLOW_STEP_MS : Math.max(STEP_MS, STEP_MULTIPLE * this.#longestStep);
        const seconds = (waited / 1000).toFixed(0);
        const message = `Step ${this.#step} is still waiting for ${missing(this.#prepared)} after ${seconds} s`;
        return limit(ms, 'ERR_PROGRESS', message);
      }
      case 'CHECKPOINTING': {
        const who = missing(this.#finished);
        const message = who
          ? `These workers did not finish after the last step: ${who}`
          : 'The last checkpoint is still not published';
        return limit(SLOW_STEP_MS, 'ERR_PROGRESS', message);
      }
      default:
        return [];
    }
  }

  /** All have joined, and some are still building. */
  #checkBuilding(waited: number, limit: Limit, builders: string): Action[] {
    const time = `${(waited / 1000).toFixed(0)} s`;
    const overdue = limit(
      BUILD_MS,
      'ERR_JOIN_TIMEOUT',
      `These workers were still opening the data or building the model after ${time}: ${builders}`,
    );
    if (overdue.length > 0 || waited < this.#nextBuildNote) return overdue;
    this.#nextBuildNote *= 2;
    const message = `after ${time} still opening the data or building the model: ${builders}`;
    return [{ type: 'note', message }];
  }

  #outOfOrder(id: string, what: string): Action[] {
    return this.#fail(
      'ERR_PROTOCOL',
      `${this.#name(id)} sent ${what} while the run is ${this.#phase}${this.#where()}`,
    );
  }

  #fail(code: ErrorCode, message: string, hint: string | null = null): Action[] {
    return this.#failBy({ code, message, hint });
  }

  #failBy(fault: Fault): Action[] {
    return this.#end({ exitCode: EXIT.failed, reason: fault.message }, fault);
  }

  #end(ending: { exitCode: number; reason: string }, fault: Fault | null = null): Action[] {
    if (fault !== null) this.#phase = 'FAILED';
    else this.#phase = ending.exitCode === EXIT.done ? 'DONE' : 'STOPPED';
    return [this.#send(null, { stop: { exitCode: ending.exitCode } }), { type: 'end', ...ending, fault }];
  }

  #enter(phase: Phase, now: number): void {
    this.#phase = phase;
    this.#since = now;
  }

  #send(to: string | null, message: FromCoordinator): Action {
    return { type: 'send', to, message: { generation: this.#generation, ...message } };
  }

  /** Keeps a worker's answer. Returns all answers in the order of ranks once every worker has answered. */
  #collect<T>(answers: Map<string, T>, id: string, answer: T): T[] | null {
    answers.set(id, answer);
    return answers.size < this.#settings.workers ? null : this.workers.map(({ id }) => answers.get(id)!);
  }

  #named<T>(answers: readonly T[]): Answer<T>[] {
    return this.workers.map(({ id }, rank) => ({ name: this.#name(id), answer: answers[rank]! }));
  }

  #name(id: string): string {
    const worker = this.#workers.get(id);
    if (worker === undefined) return `worker ${id}`;
    const rank = worker.rank < 0 ? `worker ${id}` : `rank ${worker.rank}`;
    return `${rank} (pid ${worker.pid} on ${worker.host})`;
  }

  /** Named first is the signal: it may have been sent to all processes, of which a worker is the first heard. */
  #stoppedBy(id: string, exitCode: number): string {
    return `received ${signalOfCode(exitCode)} (first heard from ${this.#name(id)})`;
  }

  #where(): string {
    return this.#step === 0 ? '' : ` at step ${this.#step}`;
  }
}

/** A worker's Failure. */
function faultFrom({ code, message, hint }: { code: string; message: string; hint: string }): Fault {
  return { code: isErrorCode(code) ? code : 'ERR_INTERNAL', message, hint: hint === '' ? null : hint };
}
