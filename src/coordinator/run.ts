/** The coordinator process: carries out the actions that the run's state machine (rule.ts) decides. */
import { validationEvery } from '../config/derived.js';
import type { LoadedConfig } from '../config/load.js';
import { slotCount } from '../config/schema.js';
import type { DescribedDataset } from '../data/dataset.js';
import { EXIT } from '../errors.js';
import { type Fault, faultLines, faultOf } from '../fault.js';
import { faultPoint } from '../fault-points.js';
import { canonicalHash } from '../files/hash.js';
import { canonicalJson } from '../files/json.js';
import { MOST_WORKERS } from '../rpc/protocol.js';
import { type Action, type Event, type ExpectedWorker, type Former, GATHER_MS } from '../rule/events.js';
import { RunState } from '../rule/rule.js';
import type { Orphan } from '../run-folder/former.js';
import { lossOf } from '../run-folder/progress.js';
import type { ResolvedRun } from '../run-folder/resolve-run.js';
import type { KeptRecords, RunDir } from '../run-folder/run-dir.js';
import type { Secrets } from '../run-folder/secrets.js';
import { SIGNAL_EXIT, type StopSignal, stoppedEarly, stopReason } from '../signals.js';
import { leveled } from '../telemetry/events.js';
import { summaryLines } from '../telemetry/lines.js';
import type { Recorder } from '../telemetry/record.js';
import type { Send } from '../telemetry/relay.js';
import type { RunProgress } from '../telemetry/run-progress.js';
import { timeSpan } from '../text/quantities.js';
import { expectedState } from './expected-state.js';
import { type Invite, listenOnNetwork } from './network.js';
import type { NetworkAddress } from './network-address.js';
import { Publisher } from './publisher.js';
import { RunRecords } from './run-records.js';
import { serveCheckpoint } from './serve-checkpoint.js';
import { type Presence, Sessions } from './sessions.js';
import { StandstillWatch } from './standstill.js';
import { StateFetcher } from './state-fetcher.js';
import { howToResume, whatFollows } from './stop-texts.js';
import { workerList } from './worker-list.js';

const TICK_MS = 250;
const WAITS = {
  died: 'the coordinator was started again; it waits for the workers, which hold the state',
  failed: 'workers of the run that has failed may come back with the state, and are waited for',
};
/** Time limits for workers to end their sessions, after success and after a failure. */
const SHUTDOWN_MS = { done: 10_000, failed: 1_000 };

/** A run with its data set, and what is recorded of it. */
interface OpenedRun extends ResolvedRun {
  rows: number;
  data: Pick<DescribedDataset, 'latent' | 'text' | 'encoders'>;
  kept: KeptRecords | null;
  /** Workers that nobody has started for this coordinator, and that may come back. */
  orphans: readonly Orphan[];
  /** Whether workers of the coordinator before this one may hold a state that is newer than the last checkpoint. */
  othersHold: boolean;
  /** Whether the coordinator before this one has died; else the run has ended, if there was one. */
  hasDied: boolean;
}

export interface CoordinatorOptions {
  loaded: LoadedConfig;
  workers: number;
  /** The run goes on with so many. */
  minWorkers: number;
  runDir: string;
  /** "auto", "never" or a path. */
  resume: string;
  /** How long the run waits for workers when fewer than its fewest are left, and a worker for a coordinator. */
  patienceSeconds: number;
  /** Whether it takes the place of a coordinator of this run that has died. */
  again: boolean;
  /** Whether the run may go on with a data set that was corrected or extended. */
  allowDataChange?: boolean;
  /** The instruction sets that all workers of the launcher have, where some have others; null: nobody knows. */
  instructionSets?: readonly string[] | null;
  /** Where workers of other machines may join; null: it is for this machine alone. */
  network: NetworkAddress | null;
  /** File for Prometheus' discovery; null: none. */
  prometheusTargets: string | null;
  /** Gives the launcher what is to be shown; null: there is none. */
  launcher: Send | null;
  /** Called when a worker has joined, and when it is gone. */
  onMember?: (workerId: string, presence: Presence, pid: number) => void;
  /**
   * Called when workers may join, with the credential of those of this machine, and with workers that may come back
   * though nobody has started them for this coordinator.
   */
  onListening: (credential: string, orphans: readonly Orphan[]) => void;
}

/** A run that is open, with the workers that take part in it, until its end. */
export class Run {
  /** Resolves with the exit code after everything is closed. */
  readonly done: Promise<number>;
  readonly #options: CoordinatorOptions;
  readonly #resolved: OpenedRun;
  readonly #dir: RunDir;
  readonly #recorder: Recorder;
  readonly #progress: RunProgress;
  readonly #state: RunState;
  readonly #sessions: Sessions;
  readonly #secrets: Secrets;
  #invite: Invite | null = null;
  readonly #ticker: NodeJS.Timeout;
  #finish: (exitCode: number) => void = () => {};
  #phase = '';
  /** The final message has been recorded. */
  #over = false;
  readonly #standstills = new StandstillWatch(performance.now());
  readonly #publisher: Publisher;
  readonly #fetcher: StateFetcher;
  readonly #records: RunRecords;

  constructor(
    options: CoordinatorOptions,
    resolved: OpenedRun,
    former: Former | null,
    dir: RunDir,
    secrets: Secrets,
    recorder: Recorder,
    progress: RunProgress,
  ) {
    const { workers, minWorkers, patienceSeconds } = options;
    const { config } = resolved;
    this.#progress = progress;
    this.#options = options;
    this.#resolved = resolved;
    this.#dir = dir;
    this.#secrets = secrets;
    this.#recorder = recorder;
    this.#records = new RunRecords(resolved, dir, recorder, progress.header.coordinatorRestarts);
    const { keep, keep_every: keepEvery, keep_best: keepBest } = config.checkpoint;
    const warn = (message: string) => recorder.note('warn', message);
    this.#publisher = new Publisher(dir.path, { keep, keepEvery, keepBest }, this.#records.losses, warn);
    this.#fetcher = new StateFetcher({
      runDir: dir.path,
      onEvent: (event) => this.#handle(event),
    });
    this.done = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.#state = new RunState({
      workers,
      minWorkers,
      maxWorkers: MOST_WORKERS,
      patienceMs: 1000 * patienceSeconds,
      welcome: {
        configJson: canonicalJson(config),
        workers,
        runDir: dir.path,
        planJson: canonicalJson(resolved.segments),
        patienceSeconds,
        isa: resolved.isa ?? '',
      },
      onGpus: config.device === 'cuda',
      instructionSets: options.instructionSets ?? null,
      mustShare: config.exchange === 'shared',
      totalSlots: slotCount(config),
      steps: config.schedule.steps,
      checkpointEvery: config.checkpoint.every,
      validateEvery: validationEvery(config),
      configHash: canonicalHash(config),
      lastGeneration: dir.lastGeneration,
      resumePath: resolved.checkpoint?.path ?? '',
      resumeStep: resolved.step,
      ...(former === null ? {} : { former }),
    });
    this.#sessions = new Sessions({
      workers,
      generation: () => this.#state.generation,
      lastGeneration: dir.lastGeneration,
      since: former === null || !resolved.othersHold ? dir.lastGeneration + 1 : 1,
      invite: (rules) => this.#invite?.(rules) ?? null,
      onState: (call) => void serveCheckpoint(call, this.#state.checkpoint, config.ema !== null),
      onMember: (id, presence, pid) => options.onMember?.(id, presence, pid),
      onEvent: (event) => this.#handle(event),
      onRefused: (message) => recorder.note('warn', `refused ${message}`),
    });
    progress.listWorkers = () =>
      workerList(this.#state.rendezvous, this.#state.places, (worker) => this.#records.deviceOf(worker));
    this.#ticker = setInterval(() => this.#handle({ type: 'tick' }), TICK_MS);
  }

  async listen(): Promise<void> {
    try {
      const { network } = this.#options;
      // Workers of a coordinator that has died look for the next one there.
      const address = await this.#sessions.listenLocally(this.#secrets.published());
      if (network !== null) {
        const on = await listenOnNetwork(network, this.#sessions, this.#secrets);
        this.#invite = on.invite;
        this.#fetcher.open({ own: on.own, expected: expectedState(this.#resolved, this.#resolved.data) });
        this.#recorder.note('notice', `workers of other machines join at ${on.address}`);
      }
      this.#secrets.publish(address);
      const { notes, orphans } = this.#resolved;
      const own = this.#options.again ? [] : notes;
      const failed = orphans.length > 0 ? [WAITS.failed] : [];
      const again = this.#resolved.hasDied ? [WAITS.died] : failed;
      for (const note of [...this.#dir.notes, ...own, ...again]) this.#recorder.note('info', note);
      for (const warning of this.#resolved.warnings) this.#recorder.note('warn', warning);
      this.#handle({ type: 'listening' });
      this.#options.onListening(address, orphans);
    } catch (error) {
      clearInterval(this.#ticker);
      await this.#sessions.close(0);
      await this.#recorder.close();
      throw error;
    }
  }

  /** Stops the run; while it trains, after the step and a checkpoint. */
  stop(signal: StopSignal, reason = stopReason(signal)): void {
    this.#handle({ type: 'stop', exitCode: SIGNAL_EXIT[signal], reason });
    const { phase, stopping } = this.#state;
    if (signal === 'SIGINT' && !this.#over && (stopping || phase === 'CHECKPOINTING')) {
      this.#recorder.note('notice', 'press Ctrl-C again, a second or more from now, to stop without saving');
    }
  }

  /** The launcher tells which workers it starts. */
  workersExpected(workers: readonly ExpectedWorker[]): void {
    this.#handle({ type: 'expected', workers });
  }

  /** The launcher reports that this worker's process has ended, or that it may live, and whether it will start it again. */
  workerExited(id: string, exited: Omit<Extract<Event, { type: 'exited' }>, 'type' | 'id'>): void {
    this.#handle({ type: 'exited', id, ...exited });
  }

  /** The launcher reports that a worker of the launch before has ended, in whose place it starts no other. */
  workerForgotten(id: string): void {
    this.#handle({ type: 'forgotten', id });
  }

  /** The launcher reports that this worker had ended for good before this process was started. */
  workerGone(id: string): void {
    this.#handle({ type: 'gone', id });
  }

  /** The launcher forwards what it warns of. */
  launchWarning(message: string): void {
    if (this.#over) process.stderr.write(`warn ${message}\n`);
    else this.#recorder.note('warn', message);
  }

  /** The launcher forwards a line that a worker printed. */
  workerOutput(line: string): void {
    const { level, message } = leveled(line);
    if (this.#over) process.stderr.write(`${line}\n`);
    else this.#recorder.note(level, message);
  }

  #handle(event: Event): void {
    const now = performance.now();
    const standstill = this.#standstills.event(now);
    if (standstill !== null) this.#records.stoodStill(standstill);
    if (event.type === 'heartbeat') this.#records.heartbeat(event);
    if (event.type === 'ready') faultPoint('syncing', this.#state.generation);
    if (event.type === 'prepared') faultPoint('computed', event.prepared.step);
    const actions = this.#state.handle(event, now);
    if (this.#state.phase !== this.#phase) {
      this.#phase = this.#state.phase;
      this.#recorder.phase(this.#phase);
    }
    try {
      for (const action of actions) this.#act(action);
    } catch (error) {
      // A step that could not be recorded is not announced to the workers, and the run ends.
      this.#handle({ type: 'actionFailed', fault: faultOf(error) });
    }
  }

  #act(action: Action): void {
    switch (action.type) {
      case 'send':
        this.#sessions.send(action.to, action.message);
        break;
      case 'refuse':
        this.#recorder.note('warn', `refused worker ${action.id}: ${action.message}`);
        this.#sessions.refuse(action.id, action.message);
        break;
      case 'cut':
        this.#sessions.cut(action.id, action.reason, action);
        break;
      case 'note':
        this.#recorder.note('info', action.message);
        break;
      case 'warn':
        this.#recorder.note('warn', action.message);
        break;
      case 'gather':
        setTimeout(() => this.#handle({ type: 'gathered' }), GATHER_MS);
        break;
      case 'journal':
        this.#records.generation(action, this.#options.minWorkers);
        faultPoint('forming', action.generation);
        break;
      case 'started':
        this.#records.started(action, this.#state.places);
        faultPoint('starting', this.#state.generation);
        break;
      case 'commit':
        faultPoint('committing', action.step);
        this.#records.commit(action);
        faultPoint('committed', action.step);
        break;
      case 'record':
        this.#records.step(action);
        faultPoint('recorded', action.step);
        break;
      case 'syncRecords':
        this.#records.sync(action.step);
        break;
      case 'validation':
        this.#records.validation(action);
        break;
      case 'fetch':
        void this.#fetcher.fetch(action.member, action.offered, action.fetch);
        break;
      case 'publish':
        this.#publisher.publish(action.saved, (event) => this.#handle(event));
        break;
      case 'sweep':
        this.#publisher.sweep(action.keep);
        break;
      case 'saved':
        this.#records.checkpoint(action.checkpoint);
        break;
      case 'notSaved':
        this.#records.missedCheckpoint(action.missed);
        break;
      case 'stopping':
        this.#recorder.note('notice', `${action.reason}: ${whatFollows(action.awaited, action.ms)}`);
        break;
      case 'end':
        this.#end(action.exitCode, action.reason, action.fault);
        break;
    }
  }

  #end(exitCode: number, reason: string, fault: Fault | null): void {
    clearInterval(this.#ticker);
    if (fault?.code === 'ERR_NON_FINITE') this.#recorder.count('non_finite_steps', 1);
    if (fault?.code === 'ERR_STATE_MISMATCH') this.#recorder.count('state_mismatches', 1);
    if (fault === null) this.#recorder.note('info', this.#outcome(exitCode, reason));
    else this.#records.fault('error', fault);
    for (const line of summaryLines(this.#progress)) this.#recorder.note('info', line);
    this.#over = true;
    const close = async () => {
      const shutdownMs = fault === null ? SHUTDOWN_MS.done : SHUTDOWN_MS.failed;
      await Promise.all([this.#sessions.close(shutdownMs), this.#fetcher.close()]);
      if (this.#dir.begun) await this.#publisher.close();
      await this.#recorder.close();
      this.#secrets.close(this.#dir.begun);
      this.#dir.release();
    };
    close().then(
      () => this.#finish(exitCode),
      (error: unknown) => {
        process.stderr.write(`error ${faultLines(faultOf(error)).join('\n')}\n`);
        this.#finish(EXIT.failed);
      },
    );
  }

  #outcome(exitCode: number, reason: string): string {
    const { committed, reached } = this.#state;
    if (exitCode === EXIT.unsaved) {
      const { step, path } = this.#state.checkpoint;
      const loss = lossOf({ step: reached, checkpoint: path === '' ? null : { step, path } });
      return `${reason}: stopped without saving: ${loss}`;
    }
    if (exitCode !== EXIT.done) {
      // Nothing has ever begun in this folder, whatever checkpoint of another it was to begin with.
      const isEarly = !this.#dir.begun && this.#dir.lastGeneration === 0;
      return isEarly || committed === 0
        ? stoppedEarly(reason)
        : `${reason}: stopped after step ${committed}; ${howToResume(this.#options.resume)}`;
    }
    return `${reason}, in ${timeSpan(this.#progress.view().elapsed_seconds)}`;
  }
}
