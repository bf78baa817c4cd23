/** The coordinator process: carries out the actions that the run's state machine (state.ts) decides. */
import { randomBytes } from 'node:crypto';
import { validationEvery } from '../config/derived.js';
import { type Config, slotCount } from '../config/schema.js';
import { EXIT } from '../errors.js';
import { type Fault, faultLines, faultOf } from '../fault.js';
import { canonicalHash } from '../files/hash.js';
import { canonicalJson } from '../files/json.js';
import type { Prepared, Ready } from '../rpc/proto.js';
import { checkWorkers, describeSlots } from '../step/assignment.js';
import { learningRate } from '../step/learning-rate.js';
import { workerNumbers } from '../telemetry/metrics.js';
import type { Recorder } from '../telemetry/record.js';
import { timeSpan } from '../text/quantities.js';
import { attentionSummary, lossByTime, slotSamples, stepLoss, validationSummary } from './combine.js';
import type { Action, Event } from './events.js';
import { Pace } from './pace.js';
import { openRunDir, type RunDir } from './run-dir.js';
import { Sessions } from './sessions.js';
import { openRecorder } from './sinks.js';
import { RunState } from './state.js';

const TICK_MS = 250;
/** Time limits for workers to end their sessions, after success and after a failure. */
const SHUTDOWN_MS = { done: 10_000, failed: 1_000 };

interface CoordinatorOptions {
  config: Config;
  workers: number;
  runDir: string;
  /** "auto", "never" or a path. */
  resume: string;
  /** host:port to listen on; port 0 takes any free port. */
  listen: string;
  /** The token that workers must present. */
  token: string;
  /** File for Prometheus' discovery; null: none. */
  prometheusTargets: string | null;
  /** Called when workers may join. */
  onListening: (address: string) => void;
}

/** Starts a run's coordinator. Errors after the start are reported on the terminal and through `done`. */
export async function startCoordinator(options: CoordinatorOptions): Promise<Run> {
  checkWorkers(options.config, options.workers);
  const dir = await openRunDir(options.runDir, options.resume, options.config);
  try {
    const recorder = await openRecorder(options.config, options.workers, dir, options.prometheusTargets);
    const run = new Run(options, dir, recorder);
    await run.listen();
    return run;
  } catch (error) {
    dir.unlock();
    throw error;
  }
}

class Run {
  /** Resolves with the exit code after everything is closed. */
  readonly done: Promise<number>;
  readonly #options: CoordinatorOptions;
  readonly #dir: RunDir;
  readonly #recorder: Recorder;
  readonly #state: RunState;
  readonly #sessions: Sessions;
  readonly #ticker: NodeJS.Timeout;
  #finish: (exitCode: number) => void = () => {};
  #phase = '';
  /** The final message has been recorded. */
  #over = false;
  /** The workers' Ready messages by rank; empty before the first step. */
  #ready: readonly Ready[] = [];
  #lastCommit = 0;
  /** The last committed step. */
  #step = 0;
  /** When the first step began. */
  #startedAt = 0;
  #pace: Pace | null = null;
  /** Generations after the first, those before a resume included. */
  #restarts = 0;

  constructor(options: CoordinatorOptions, dir: RunDir, recorder: Recorder) {
    const { config, workers } = options;
    this.#options = options;
    this.#dir = dir;
    this.#recorder = recorder;
    this.done = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.#state = new RunState({
      workers,
      welcome: {
        configJson: canonicalJson(config),
        workers,
        dataToken: randomBytes(24).toString('hex'),
        runDir: dir.path,
      },
      totalSlots: slotCount(config),
      steps: config.schedule.steps,
      checkpointEvery: config.checkpoint.every,
      validateEvery: validationEvery(config),
      configHash: canonicalHash(config),
      lastGeneration: dir.lastGeneration,
      resumePath: dir.resume?.path ?? '',
      resumeStep: dir.resume?.manifest.step ?? 0,
    });
    this.#sessions = new Sessions({
      token: options.token,
      generation: () => this.#state.generation,
      onEvent: (event) => this.#handle(event),
      onRefused: (message) => recorder.note('warn', `refused ${message}`),
    });
    this.#ticker = setInterval(() => this.#handle({ type: 'tick' }), TICK_MS);
  }

  async listen(): Promise<void> {
    try {
      const address = await this.#sessions.listen(this.#options.listen);
      for (const note of this.#dir.notes) this.#recorder.note('info', note);
      this.#handle({ type: 'listening' });
      this.#options.onListening(address);
    } catch (error) {
      clearInterval(this.#ticker);
      await this.#recorder.close();
      throw error;
    }
  }

  /** Stops the run; while it trains, after the step and a checkpoint. */
  stop(exitCode: number, reason: string): void {
    if (this.#state.phase === 'RUNNING') {
      const what = 'finishing the step and writing a checkpoint (a second signal stops without saving)';
      this.#recorder.note('info', `${reason}: ${what}`);
    }
    this.#handle({ type: 'stop', exitCode, reason });
  }

  /** The launcher reports that this worker's process has ended. */
  workerExited(id: string, exit: string): void {
    this.#handle({ type: 'exited', id, exit });
  }

  /** The launcher forwards a line that a worker printed. */
  workerOutput(line: string): void {
    if (this.#over) process.stderr.write(`${line}\n`);
    else this.#recorder.note('info', line);
  }

  #handle(event: Event): void {
    const actions = this.#state.handle(event, performance.now());
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
      case 'journal':
        this.#recorder.generation(action.generation);
        this.#recorder.count('restarts', action.generation - 1 - this.#restarts);
        this.#restarts = action.generation - 1;
        this.#dir.journal.append({
          generation: action.generation,
          step: action.step,
          checkpoint: this.#dir.resume?.path ?? null,
          started_unix_seconds: this.#dir.started,
          workers: action.workers,
          unix_seconds: Date.now() / 1000,
        });
        this.#dir.journal.sync();
        break;
      case 'started':
        this.#started(action.firstStep, action.ready);
        break;
      case 'commit':
        this.#dir.ledger.append({ step: action.step, slots: slotSamples(action.prepared) });
        break;
      case 'record':
        this.#record(action.step, action.prepared);
        break;
      case 'syncRecords':
        this.#syncRecords(action.step);
        break;
      case 'validation': {
        const results = validationSummary(action.parts, this.#ready[0]?.validation ?? []);
        const emaDistance = this.#options.config.ema === null ? null : action.parts[0]!.emaDistance;
        this.#recorder.validation({ step: action.step, results, emaDistance });
        break;
      }
      case 'saved':
        this.#recorder.checkpoint(action.saved);
        break;
      case 'end':
        this.#end(action.exitCode, action.reason, action.fault);
        break;
    }
  }

  #started(firstStep: number, all: readonly Ready[]): void {
    this.#ready = all;
    const ready = all[0]!;
    const { config } = this.#options;
    this.#startedAt = performance.now();
    this.#lastCommit = this.#startedAt;
    this.#pace = new Pace({
      firstStep,
      steps: config.schedule.steps,
      validateEvery: validationEvery(config),
      // It is a forward pass; a training step costs as much as three.
      validationCost: (ready.validation.length * config.validation.weights.length) / (3 * slotCount(config)),
    });
    const workers = this.#state.workers
      .map(
        ({ rank, pid, firstSlot, endSlot }) =>
          `rank ${rank} (pid ${pid}): ${describeSlots({ lo: firstSlot, hi: endSlot })}`,
      )
      .join(', ');
    this.#recorder.note(
      'info',
      `${(ready.parameters / 1e6).toFixed(2)} M parameters in ${ready.precision}; batch ${config.batch.global} = ` +
        `${slotCount(config)} slots x ${config.batch.micro}; ${workers}`,
    );
    const gpus = all.flatMap(({ device }, rank) => (device === '' ? [] : [`rank ${rank} on ${device}`]));
    if (gpus.length > 0) this.#recorder.note('info', gpus.join('; '));
    const { steps } = config.schedule;
    const what = firstStep > steps ? `nothing left of ${steps} steps` : `steps ${firstStep} to ${steps}`;
    this.#recorder.note('info', `${what}, run folder ${this.#dir.path}`);
  }

  #record(step: number, prepared: readonly Prepared[]): void {
    const now = performance.now();
    const seconds = (now - this.#lastCommit) / 1000;
    this.#lastCommit = now;
    this.#step = step;
    this.#pace?.add(step, seconds);
    const { config } = this.#options;
    const { steps } = config.schedule;
    this.#recorder.step({
      step,
      steps,
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
      workers: this.#state.workers.map((worker, rank) => ({
        ...worker,
        device: this.#ready[rank]?.device ?? '',
        numbers: workerNumbers(prepared[rank]!.numbers),
      })),
      etaSeconds: this.#pace?.remaining(step) ?? null,
    });
    const forecast = this.#pace?.forecast() ?? null;
    if (forecast !== null) this.#recorder.note('info', forecast);
  }

  #syncRecords(step: number): void {
    this.#dir.ledger.sync();
    this.#dir.metrics.sync();
    this.#dir.journal.append({ generation: this.#state.generation, step, unix_seconds: Date.now() / 1000 });
    this.#dir.journal.sync();
  }

  #end(exitCode: number, reason: string, fault: Fault | null): void {
    clearInterval(this.#ticker);
    const [outcome, ...hints] = fault === null ? [this.#outcome(exitCode, reason)] : faultLines(fault);
    if (fault?.code === 'ERR_NON_FINITE') this.#recorder.count('non_finite_steps', 1);
    if (fault?.code === 'ERR_STATE_MISMATCH') this.#recorder.count('state_mismatches', 1);
    this.#recorder.note(fault === null ? 'info' : 'error', outcome);
    for (const hint of hints) this.#recorder.note('info', hint);
    this.#over = true;
    const close = async () => {
      await this.#sessions.close(fault === null ? SHUTDOWN_MS.done : SHUTDOWN_MS.failed);
      await this.#recorder.close();
      this.#dir.ledger.close();
      this.#dir.journal.close();
      this.#dir.unlock();
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
    if (this.#step === 0) return reason;
    if (exitCode !== EXIT.done)
      return `${reason}: stopped after step ${this.#step}; run the same command to resume`;
    return `${reason}, in ${timeSpan((performance.now() - this.#startedAt) / 1000)}`;
  }
}
