/** The coordinator process: carries out the actions that the run's state machine (rule.ts) decides. */
import { bestStep } from '../checkpoint/retention.js';
import { isLogged, validatedWeights, validationEvery } from '../config/derived.js';
import type { LoadedConfig } from '../config/load.js';
import { slotCount } from '../config/schema.js';
import { EXIT } from '../errors.js';
import { type Fault, faultLines, faultOf } from '../fault.js';
import { canonicalHash } from '../files/hash.js';
import { canonicalJson } from '../files/json.js';
import type { Ready, Validated } from '../rpc/proto.js';
import { type Exit, SIGNAL_EXIT, type StopSignal, stoppedEarly, stopReason } from '../signals.js';
import { checkFewest, checkWorkers, describeSlots } from '../step/assignment.js';
import { learningRate } from '../step/learning-rate.js';
import { comparableFrom } from '../step/plan.js';
import { summaryLines } from '../telemetry/lines.js';
import { workerNumbers } from '../telemetry/metrics.js';
import type { MissedCheckpoint, Recorder } from '../telemetry/record.js';
import type { Send } from '../telemetry/relay.js';
import type { RunProgress } from '../telemetry/run-progress.js';
import { counted, timeSpan } from '../text/quantities.js';
import {
  attentionSummary,
  forwardShare,
  lossByTime,
  skippedRows,
  stepLoss,
  stepRows,
  validationSummary,
} from './combine.js';
import type { Action, Event, Place } from './events.js';
import { ledgerLine } from './ledger-file.js';
import { type Invite, listenOnNetwork } from './network.js';
import type { NetworkAddress } from './network-address.js';
import { Pace } from './pace.js';
import { Publisher } from './publisher.js';
import { completion, describeData, type ResolvedRun, resolveRun } from './resolve-run.js';
import { RunState } from './rule.js';
import { RunDir } from './run-dir.js';
import { Secrets } from './secrets.js';
import { Sessions } from './sessions.js';
import { openRecorder } from './sinks.js';
import { ValidationProgress } from './validation-progress.js';

const TICK_MS = 250;
/** Without an event for this long, despite the ticks, this process stood still: it was suspended. */
const SUSPENDED_MS = 5_000;
/** How long a run waits for workers when fewer than its fewest are left. */
const PATIENCE_MS = 600_000;
/** More do not join a run. */
const MOST_WORKERS = 4_096;
/** Without checkpoints the records are synced after so many steps, so that readers need not read all of them. */
const SYNC_STEPS = 10_000;
/** Time limits for workers to end their sessions, after success and after a failure. */
const SHUTDOWN_MS = { done: 10_000, failed: 1_000 };

interface CoordinatorOptions {
  loaded: LoadedConfig;
  workers: number;
  /** The run goes on with so many. */
  minWorkers: number;
  runDir: string;
  /** "auto", "never" or a path. */
  resume: string;
  /** Whether the run may go on with a data set that was corrected or extended. */
  allowDataChange?: boolean;
  /** Where workers of other machines may join; null: it is for this machine alone. */
  network: NetworkAddress | null;
  /** File for Prometheus' discovery; null: none. */
  prometheusTargets: string | null;
  /** Gives the launcher what is to be shown; null: there is none. */
  launcher: Send | null;
  /** Called when workers may join, with the credential of those of this machine. */
  onListening: (credential: string) => void;
}

/**
 * Starts a run's coordinator. Errors after the start are reported on the terminal and through `done`. Null, with
 * a message on the terminal, if no step is left.
 */
export async function startCoordinator(options: CoordinatorOptions): Promise<Run | null> {
  const { loaded, workers, minWorkers, runDir, resume, allowDataChange = false } = options;
  checkWorkers(loaded.config, workers);
  checkFewest(workers, minWorkers);
  const dir = await RunDir.open(runDir);
  let secrets: Secrets | null = null;
  try {
    const data = describeData(loaded);
    const resolved = await resolveRun(loaded, data, data, {
      runDir,
      resume,
      allowDataChange,
      thorough: true,
    });
    const complete = completion(resolved);
    if (complete !== null) {
      process.stdout.write(`${complete}\n`);
      dir.release();
      return null;
    }
    secrets = new Secrets(dir.path);
    const { prometheusTargets, launcher } = options;
    const { recorder, progress } = await openRecorder(resolved, workers, dir, prometheusTargets, launcher);
    const run = new Run(options, { ...resolved, rows: data.rows }, dir, secrets, recorder, progress);
    await run.listen();
    return run;
  } catch (error) {
    secrets?.close(false);
    dir.release();
    throw error;
  }
}

export class Run {
  /** Resolves with the exit code after everything is closed. */
  readonly done: Promise<number>;
  readonly #options: CoordinatorOptions;
  readonly #resolved: ResolvedRun;
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
  /** The workers' Ready messages by rank; empty before the first step. */
  #ready: readonly Ready[] = [];
  /** The line of the generation that formed, for the journal. */
  #generation: object = {};
  #lastCommit = 0;
  #lastEvent = performance.now();
  /** Seconds of suspension since the last commit. */
  #suspendedSeconds = 0;
  /** Seconds from the commit before the last to the last one, without a validation or suspension in between. */
  #stepSeconds = 0;
  /** Validation losses of the EMA by step. */
  readonly #losses = new Map<number, number>();
  readonly #validationProgress = new ValidationProgress();
  /** Seconds of validation since the last commit. */
  #validationSeconds = 0;
  /** The last committed step. */
  #step = 0;
  /** The last step that the journal says is on disk. */
  #synced = 0;
  /** The first step of this process. */
  #firstStep = 0;
  /** Rows that are trained on. */
  readonly #trainedRows: number;
  /** When the first step began. */
  #startedAt = 0;
  #pace: Pace | null = null;
  /** Checkpoints left out because another one was still being written. */
  #leftOut = 0;
  readonly #publisher: Publisher;
  /** Rows with values that are not finite, which were named. */
  readonly #skipped = new Set<number>();

  constructor(
    options: CoordinatorOptions,
    resolved: ResolvedRun & { rows: number },
    dir: RunDir,
    secrets: Secrets,
    recorder: Recorder,
    progress: RunProgress,
  ) {
    const { workers, minWorkers } = options;
    const { config } = resolved;
    this.#progress = progress;
    this.#trainedRows = resolved.rows - config.data.validation_rows;
    this.#options = options;
    this.#resolved = resolved;
    this.#dir = dir;
    this.#secrets = secrets;
    this.#recorder = recorder;
    const { keep, keep_every: keepEvery, keep_best: keepBest } = config.checkpoint;
    const warn = (message: string) => recorder.note('warn', message);
    this.#publisher = new Publisher(dir.path, { keep, keepEvery, keepBest }, this.#losses, warn);
    this.done = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.#state = new RunState({
      workers,
      minWorkers,
      maxWorkers: MOST_WORKERS,
      patienceMs: PATIENCE_MS,
      welcome: {
        configJson: canonicalJson(config),
        workers,
        runDir: dir.path,
        planJson: canonicalJson(resolved.segments),
      },
      mustShare: config.exchange === 'shared',
      totalSlots: slotCount(config),
      steps: config.schedule.steps,
      checkpointEvery: config.checkpoint.every,
      validateEvery: validationEvery(config),
      configHash: canonicalHash(config),
      lastGeneration: dir.lastGeneration,
      resumePath: resolved.checkpoint?.path ?? '',
      resumeStep: resolved.step,
    });
    this.#sessions = new Sessions({
      workers,
      generation: () => this.#state.generation,
      invite: (rules) => this.#invite?.(rules) ?? null,
      onEvent: (event) => this.#handle(event),
      onRefused: (message) => recorder.note('warn', `refused ${message}`),
    });
    this.#ticker = setInterval(() => this.#handle({ type: 'tick' }), TICK_MS);
  }

  async listen(): Promise<void> {
    try {
      const { network } = this.#options;
      const address = await this.#sessions.listenLocally();
      if (network !== null) {
        const on = await listenOnNetwork(network, this.#sessions, this.#secrets);
        this.#invite = on.invite;
        this.#recorder.note('info', `workers of other machines join at ${on.address}`);
      }
      this.#secrets.publish(address);
      for (const note of [...this.#dir.notes, ...this.#resolved.notes]) this.#recorder.note('info', note);
      for (const warning of this.#resolved.warnings) this.#recorder.note('warn', warning);
      this.#handle({ type: 'listening' });
      this.#options.onListening(address);
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
    const { phase } = this.#state;
    if (signal === 'SIGINT' && (phase === 'DRAINING' || phase === 'CHECKPOINTING')) {
      this.#recorder.note('info', 'press Ctrl-C again, a second or more from now, to stop without saving');
    }
  }

  /** The launcher reports that this worker's process has ended, and whether it will start it again. */
  workerExited(id: string, exit: Exit, again: boolean): void {
    this.#handle({ type: 'exited', id, exit, again });
  }

  /** The launcher forwards a line that a worker printed. */
  workerOutput(line: string): void {
    if (this.#over) process.stderr.write(`${line}\n`);
    else this.#recorder.note('info', line);
  }

  #handle(event: Event): void {
    const now = performance.now();
    this.#noticeSuspension(now - this.#lastEvent);
    this.#lastEvent = now;
    if (event.type === 'heartbeat') {
      const { id, heartbeat } = event;
      const slots = this.#validationProgress.heard(id, heartbeat.validated, this.#validationSlots);
      if (slots !== null) this.#recorder.validating(slots);
    }
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

  /** The step goes on where it was, so the time is not its own. */
  #noticeSuspension(ms: number): void {
    if (ms < SUSPENDED_MS) return;
    this.#suspendedSeconds += ms / 1000;
    this.#recorder.note('info', `the run stood still for ${timeSpan(ms / 1000)}, suspended`);
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
        this.#sessions.refuse(action.id, action.reason);
        break;
      case 'note':
        this.#recorder.note('info', action.message);
        break;
      case 'journal':
        this.#recorder.generation(action.generation);
        if (action.generation > 1) this.#recorder.count('restarts', 1);
        this.#generation = {
          generation: action.generation,
          step: action.step,
          checkpoint: this.#resolved.checkpoint?.path ?? null,
          segments: this.#resolved.segments,
          started_unix_seconds: this.#dir.started,
          workers: action.workers,
          min_workers: this.#options.minWorkers,
          unix_seconds: Date.now() / 1000,
        };
        break;
      case 'started':
        this.#started(action.firstStep, action.ready);
        break;
      case 'commit':
        this.#timeStep();
        this.#dir.records.ledger.append(
          ledgerLine(action.step, this.#resolved.config.batch.micro, stepRows(action.prepared)),
        );
        break;
      case 'record':
        this.#record(action);
        break;
      case 'syncRecords':
        this.#syncRecords(action.step);
        break;
      case 'validation':
        this.#validation(action.step, action.parts);
        break;
      case 'publish':
        this.#publisher.publish(action.saved, (event) => this.#handle(event));
        break;
      case 'saved':
        this.#pace?.saved(action.checkpoint.seconds);
        this.#recorder.checkpoint(action.checkpoint);
        break;
      case 'notSaved':
        this.#missed(action.missed);
        break;
      case 'stopping':
        this.#recorder.note('info', `${action.reason}: finishing the step and writing a checkpoint`);
        break;
      case 'end':
        this.#end(action.exitCode, action.reason, action.fault);
        break;
    }
  }

  /** All workers of the first generation are ready: from now on the run folder is changed. */
  #begin(firstStep: number): void {
    const { notes, warnings, losses, validations } = this.#dir.begin(this.#resolved);
    const from = comparableFrom(this.#resolved.segments);
    for (const [step, loss] of losses) if (step >= from) this.#losses.set(step, loss);
    this.#journalGeneration();
    this.#recorder.begin();
    const comparable = validations.filter(({ step }) => step >= from);
    this.#recorder.start({ firstStep, validations: comparable });
    for (const note of notes) this.#recorder.note('info', note);
    for (const warning of warnings) this.#recorder.note('warn', warning);
  }

  #journalGeneration(): void {
    const { journal, metrics } = this.#dir.records;
    journal.append({ ...this.#generation, metrics: metrics.recorded });
    journal.sync();
  }

  #started(firstStep: number, all: readonly Ready[]): void {
    const begins = this.#ready.length === 0;
    this.#ready = all;
    const ready = all[0]!;
    const { config } = this.#resolved;
    if (begins) this.#begin(firstStep);
    else this.#journalGeneration();
    this.#lastCommit = performance.now();
    if (!begins) {
      const who = this.#state.places.map(describePlace).join(', ');
      this.#recorder.note('info', `goes on from step ${firstStep - 1} with ${who}`);
      return;
    }
    this.#firstStep = firstStep;
    this.#synced = firstStep - 1;
    this.#startedAt = this.#lastCommit;
    this.#pace = new Pace({
      firstStep,
      steps: config.schedule.steps,
      validateEvery: validationEvery(config),
      validationPasses: this.#validationSlots / slotCount(config),
      checkpointEvery: config.checkpoint.every,
      checkpointBytes: ready.parameters * 4 * (config.ema === null ? 3 : 4),
    });
    const workers = this.#state.places.map(describePlace).join(', ');
    this.#recorder.note(
      'info',
      `${(ready.parameters / 1e6).toFixed(2)} M parameters in ${ready.precision}; batch ${config.batch.global} = ` +
        `${counted(slotCount(config), 'slot')} x ${config.batch.micro}; ${workers}`,
    );
    const gpus = all.flatMap(({ device }, rank) => (device === '' ? [] : [`rank ${rank} on ${device}`]));
    if (gpus.length > 0) this.#recorder.note('info', gpus.join('; '));
    const { steps } = config.schedule;
    const held = config.data.validation_rows;
    const data = `data ${config.data.path}: ${counted(this.#trainedRows, 'row')} to train on, ${held} held out`;
    // Other starts are in the notes of how the run was found.
    const { checkpoint } = this.#resolved;
    const weights = checkpoint === null && config.init === null ? [`weights from seed ${config.seed}`] : [];
    for (const line of [...weights, data, `steps ${firstStep} to ${steps}, run folder ${this.#dir.path}`])
      this.#recorder.note('info', line);
  }

  /** Called before the workers hear of the commit, so that a validation lies between two calls. */
  #timeStep(): void {
    const now = performance.now();
    const elsewhere = this.#validationSeconds + this.#suspendedSeconds;
    this.#stepSeconds = (now - this.#lastCommit) / 1000 - elsewhere;
    this.#lastCommit = now;
    this.#validationSeconds = 0;
    this.#suspendedSeconds = 0;
  }

  /** Counts skipped rows, and warns of those that are skipped for the first time in this process. */
  #countSkipped(rows: readonly number[]): void {
    this.#recorder.count('skipped_rows', rows.length);
    const fresh = [...new Set(rows)].filter((row) => !this.#skipped.has(row)).sort((a, b) => a - b);
    if (fresh.length === 0) return;
    for (const row of fresh) this.#skipped.add(row);
    const named =
      fresh.slice(0, 10).join(', ') + (fresh.length > 10 ? `, and ${fresh.length - 10} more` : '');
    const what = 'a stored value is not finite: weight 0 whenever it is drawn (data.on_non_finite is skip)';
    this.#recorder.note('warn', `row ${named}: ${what}`);
  }

  #record({ step, prepared, places, validate }: Extract<Action, { type: 'record' }>): void {
    this.#step = step;
    this.#validationProgress.committed(validate);
    const seconds = this.#stepSeconds;
    this.#pace?.add(step, seconds, forwardShare(prepared));
    this.#countSkipped(skippedRows(prepared));
    const { config } = this.#resolved;
    const { steps } = config.schedule;
    this.#recorder.step({
      step,
      steps,
      epoch: (step * config.batch.global) / this.#trainedRows,
      logged: isLogged(config, step, this.#firstStep),
      loss: stepLoss(prepared),
      gradientNorm: prepared[0]!.gradientNorm,
      learningRate: learningRate(config, step),
      seconds,
      samples: config.batch.global,
      flops: (this.#ready[0]?.flopsPerSlot ?? 0) * slotCount(config),
      matmulPeak: this.#ready.reduce((sum, { matmulPeak }) => sum + matmulPeak, 0),
      times: lossByTime(prepared),
      attention: attentionSummary(prepared),
      gradientNorms: prepared[0]!.gradientNorms,
      workers: places.map((worker, rank) => ({
        ...worker,
        device: this.#ready[rank]?.device ?? '',
        numbers: workerNumbers(prepared[rank]!.numbers),
      })),
      validating: validate,
      etaSeconds: this.#pace?.remaining(step) ?? null,
    });
    if (step >= this.#synced + SYNC_STEPS) this.#syncRecords(step);
    const forecast = this.#pace?.forecast() ?? null;
    if (forecast !== null) this.#recorder.note('info', forecast);
  }

  /** Slots of a validation, with all its weights. */
  get #validationSlots(): number {
    return (this.#ready[0]?.validation.length ?? 0) * validatedWeights(this.#resolved.config).length;
  }

  #validation(step: number, parts: readonly Validated[]): void {
    // The workers that are done first wait for the slowest in the exchange of the next step.
    const slowest = Math.max(...parts.map((part) => part.seconds));
    const seconds = Math.max(0, slowest - this.#suspendedSeconds);
    this.#validationSeconds = seconds;
    this.#validationProgress.over();
    if (parts.some(({ abandoned }) => abandoned)) {
      this.#recorder.note('info', `validation at step ${step} abandoned`);
      return;
    }
    this.#pace?.validated(seconds);
    const results = validationSummary(parts, this.#ready[0]?.validation ?? []);
    const emaDistance = this.#resolved.config.ema === null ? null : parts[0]!.emaDistance;
    this.#recorder.validation({ step, seconds, results, emaDistance });
    const loss = results.find(({ weights }) => weights === 'ema')?.mean;
    if (loss === undefined) return;
    this.#losses.set(step, loss);
    const isBest = bestStep([...this.#losses.keys()], this.#losses) === step;
    if (isBest && this.#resolved.config.checkpoint.keep_best) {
      this.#recorder.note('info', `step ${step} has the lowest validation loss of the EMA so far`);
    }
  }

  #syncRecords(step: number): void {
    const { ledger, metrics, journal } = this.#dir.records;
    ledger.sync();
    metrics.sync();
    const { generation } = this.#state;
    journal.append({ generation, step, unix_seconds: Date.now() / 1000, metrics: metrics.recorded });
    journal.sync();
    this.#synced = step;
  }

  /** Where the disk is always slower than training, the user is told of the 1st, 10th, 100th, ... left out. */
  #missed(missed: MissedCheckpoint): void {
    // Of one that is left out, another is still being written.
    if (missed.reason === 'failed') this.#pace?.saved(null);
    this.#recorder.missedCheckpoint(missed);
    if (missed.reason === 'skipped') {
      this.#leftOut++;
      if (!/^10*$/.test(String(this.#leftOut))) return;
      if (this.#leftOut > 1) this.#recorder.note('warn', `${this.#leftOut} checkpoints were left out so far`);
    }
    this.#tell('warn', faultLines(missed.fault));
  }

  #tell(level: 'warn' | 'error', [what, ...hints]: readonly [string, ...string[]]): void {
    this.#recorder.note(level, what);
    for (const hint of hints) this.#recorder.note('info', hint);
  }

  #end(exitCode: number, reason: string, fault: Fault | null): void {
    clearInterval(this.#ticker);
    if (fault?.code === 'ERR_NON_FINITE') this.#recorder.count('non_finite_steps', 1);
    if (fault?.code === 'ERR_STATE_MISMATCH') this.#recorder.count('state_mismatches', 1);
    if (fault === null) this.#recorder.note('info', this.#outcome(exitCode, reason));
    else this.#tell('error', faultLines(fault));
    for (const line of summaryLines(this.#progress)) this.#recorder.note('info', line);
    this.#over = true;
    const close = async () => {
      await this.#sessions.close(fault === null ? SHUTDOWN_MS.done : SHUTDOWN_MS.failed);
      if (this.#step > 0) await this.#publisher.close();
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
    if (exitCode !== EXIT.done) {
      return this.#step === 0
        ? stoppedEarly(reason)
        : `${reason}: stopped after step ${this.#step}; ${howToResume(this.#options.resume)}`;
    }
    return `${reason}, in ${timeSpan((performance.now() - this.#startedAt) / 1000)}`;
  }
}

function describePlace({ rank, pid, firstSlot, endSlot }: Place): string {
  return `rank ${rank} (pid ${pid}): ${describeSlots({ lo: firstSlot, hi: endSlot })}`;
}

/** Only `--resume auto` takes the checkpoint that was written last; a path or `never` would not. */
function howToResume(resume: string): string {
  return resume === 'auto'
    ? 'run the same command to resume'
    : `to resume, run the command with --resume auto, not --resume ${resume}`;
}
