/**
 * The state machine of a run, without processes, sockets, files and clocks: it takes events and returns
 * actions. The caller carries out the actions in order, and completes each before the next, so that a step is
 * recorded before the workers hear of it.
 */
import { type ErrorCode, EXIT } from '../errors.js';
import { type Fault, isErrorCode } from '../fault.js';
import type { DeviceRendezvous, FromCoordinator, Prepared, Ready, Validated } from '../rpc/proto.js';
import { describeExit, type Exit, isStopCode, SIGNAL_EXIT, stopCodeOf } from '../signals.js';
import { assignSlots } from '../step/assignment.js';
import type { Action, Event, Phase, Settings, Worker } from './events.js';
import { type Answer, judgePrepared, judgeReady } from './judge.js';

/** A worker silent for this long counts as dead. Building a large model may block its event loop. */
const SILENT_MS = { training: 3_000, building: 60_000 };
/** A longer gap between ticks means that this process was paused, not the workers. */
const PAUSED_MS = 1_000;
const JOIN_MS = 60_000;
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

/** One run, from joining to its end. */
export class RunState {
  #phase: Phase = 'INIT';
  #generation: number;
  readonly #settings: Settings;
  readonly #workers = new Map<string, Worker>();
  readonly #seen = new Map<string, number>();
  /** Answers of the current phase or step, by worker. */
  #formed = new Map<string, DeviceRendezvous | null>();
  #ready = new Map<string, Ready>();
  #prepared = new Map<string, Prepared>();
  #applied = new Map<string, string>();
  #validated = new Map<string, Validated>();
  #finished = new Set<string>();
  /** The step that is being computed; 0 before the first. */
  #step = 0;
  /** When the phase began, or while training the step. */
  #since = 0;
  #longestStep = 0;
  #slowStep = true;
  #lastTick = 0;
  /** The step of the last checkpoint; 0 = none. */
  #savedStep: number;
  /** A worker whose session has ended, while the launcher's word is awaited. */
  #loss: { id: string; reason: string; at: number } | null = null;
  /** How the run ends unless it fails. */
  #ending: { exitCode: number; reason: string };

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#generation = settings.lastGeneration;
    this.#savedStep = settings.resumeStep;
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
    if (this.#loss !== null && event.type !== 'saved' && event.type !== 'actionFailed') {
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
        this.#savedStep = event.saved.step;
        return [{ type: 'saved', saved: event.saved }];
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
        const { code, message, hint } = event.failure;
        const known = isErrorCode(code) ? code : 'ERR_INTERNAL';
        return this.#fail(known, `${this.#name(event.id)}: ${message}`, hint === '' ? null : hint);
      }
      case 'stopRequest': {
        const { exitCode } = event.stopRequest;
        return this.#onStop(isStopCode(exitCode) ? exitCode : SIGNAL_EXIT.SIGTERM, this.#stoppedBy(event.id));
      }
      case 'stop':
        return this.#onStop(event.exitCode, event.reason);
      case 'actionFailed':
        return this.#failBy(event.fault);
      case 'tick':
        return this.#tick(now);
    }
  }

  #joined(event: Extract<Event, { type: 'joined' }>, now: number): Action[] {
    const { type: _, ...worker } = event;
    const { id } = worker;
    if (this.#phase !== 'JOINING') {
      return [{ type: 'refuse', id, message: `worker ${id} joined while the run is ${this.#phase}` }];
    }
    this.#workers.set(id, { ...worker, rank: -1, firstSlot: 0, endSlot: 0 });
    this.#seen.set(id, now);
    const welcome = this.#send(id, { welcome: this.#settings.welcome });
    return this.#workers.size === this.#settings.workers ? [welcome, ...this.#form(now)] : [welcome];
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
    const checkpoint = stop || due(checkpointEvery);
    // A run that is asked to stop may have seconds left.
    const validate = validateEvery > 0 && (last || due(validateEvery)) && !stopped;
    this.#longestStep = Math.max(this.#longestStep, this.#slowStep ? 0 : now - this.#since);
    this.#slowStep = validate;
    this.#prepared.clear();
    this.#applied.clear();
    this.#validated.clear();
    this.#enter(stop ? 'CHECKPOINTING' : this.#phase, now);
    if (!stop) this.#step++;
    const commit: Action = { type: 'commit', step, prepared };
    const record: Action = { type: 'record', step, prepared };
    const send = this.#send(null, { commit: { validate, checkpoint, stop } });
    // The workers wait for this message; metrics are recorded while they update.
    return checkpoint ? [commit, record, { type: 'syncRecords', step }, send] : [commit, send, record];
  }

  #onApplied(id: string, { step, stateHash }: { step: number; stateHash: string }): Action[] {
    this.#applied.set(id, stateHash);
    const [[firstId, first] = ['', '']] = this.#applied;
    if (stateHash === first) return [];
    return this.#fail(
      'ERR_STATE_MISMATCH',
      `The state of ${this.#name(id)} and of ${this.#name(firstId)} differ after step ${step}`,
      'Resume from a checkpoint before it',
    );
  }

  #onValidated(id: string, validated: Validated): Action[] {
    const parts = this.#collect(this.#validated, id, validated);
    return parts === null ? [] : [{ type: 'validation', step: validated.step, parts }];
  }

  #onFinished(id: string): Action[] {
    if (this.#phase !== 'CHECKPOINTING') return this.#outOfOrder(id, 'Finished');
    this.#finished.add(id);
    return this.#finished.size < this.#settings.workers ? [] : this.#end(this.#ending);
  }

  #lost(id: string, reason: string): Action[] {
    return this.#leave(id, `Lost ${this.#name(id)}${this.#where()}: ${reason}`);
  }

  #exited(id: string, exit: Exit): Action[] {
    const isMember = this.#workers.has(id);
    if (!isMember && this.#phase !== 'JOINING') return [];
    // Before the first step there is nothing to save.
    const stopCode = this.#step === 0 ? stopCodeOf(exit) : null;
    if (stopCode !== null) return this.#end({ exitCode: stopCode, reason: this.#stoppedBy(id) });
    const where = isMember ? this.#where() : ' before it joined';
    return this.#leave(id, `${this.#name(id)} ${describeExit(exit, where)}`);
  }

  /** A worker is gone: that ends the run, unless it has finished. */
  #leave(id: string, message: string): Action[] {
    this.#workers.delete(id);
    if (this.#finished.has(id)) return [];
    const from =
      this.#savedStep === 0
        ? 'No checkpoint was written yet: the same command starts again'
        : `The last checkpoint is of step ${this.#savedStep}: the same command goes on from there`;
    return this.#fail('ERR_WORKER_LOST', message, from);
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
    const limit = (ms: number, code: ErrorCode, message: string) =>
      waited > ms ? this.#fail(code, message) : [];
    switch (this.#phase) {
      case 'JOINING': {
        const count = `${this.#workers.size} of ${this.#settings.workers} workers`;
        return limit(JOIN_MS, 'ERR_JOIN_TIMEOUT', `${count} joined within ${JOIN_MS / 1000} s`);
      }
      case 'FORMING': {
        const message = `These workers could not connect to their peers in time: ${missing(this.#formed)}`;
        return limit(JOIN_MS, 'ERR_JOIN_TIMEOUT', message);
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
        const message = `These workers did not finish after the last step: ${missing(this.#finished)}`;
        return limit(SLOW_STEP_MS, 'ERR_PROGRESS', message);
      }
      default:
        return [];
    }
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

  #stoppedBy(id: string): string {
    return `${this.#name(id)} received a signal to stop`;
  }

  #where(): string {
    return this.#step === 0 ? '' : ` at step ${this.#step}`;
  }
}
