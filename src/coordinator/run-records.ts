/** What the records of a run say of its steps, validations and checkpoints, and how long each of them took. */

import { bestStep } from '../checkpoint/retention.js';
import {
  describeBatch,
  isAttentionLogged,
  isLogged,
  validatedWeights,
  validationEvery,
} from '../config/derived.js';
import { slotCount, slotSamples } from '../config/schema.js';
import { type Fault, faultLines } from '../fault.js';
import type { Ready } from '../rpc/proto.js';
import { describeSlots } from '../step/assignment.js';
import { learningRate } from '../step/learning-rate.js';
import { comparableFrom } from '../step/plan.js';
import { workerNumbers } from '../telemetry/metrics.js';
import type { CheckpointRecord, MissedCheckpoint, Recorder } from '../telemetry/record.js';
import { counted, stepsText } from '../text/quantities.js';
import { named } from '../text/shortened.js';
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
import { keptRecords } from './kept-records.js';
import { ledgerLine } from './ledger-file.js';
import { Pace } from './pace.js';
import type { ResolvedRun } from './resolve-run.js';
import { type KeptRecords, type RunDir, recordedStep } from './run-dir.js';
import { describeStandstill, type Standstill } from './standstill.js';
import { Stragglers } from './stragglers.js';
import { ValidationProgress } from './validation-progress.js';

/** Without checkpoints the records are synced after so many steps, so that readers need not read all of them. */
const SYNC_STEPS = 10_000;

type ActionOf<T extends Action['type']> = Extract<Action, { type: T }>;

export class RunRecords {
  readonly #resolved: ResolvedRun & { kept: KeptRecords | null };
  readonly #dir: RunDir;
  readonly #recorder: Recorder;
  readonly #coordinatorRestarts: number;
  /** Rows that are trained on. */
  readonly #trainedRows: number;
  /** Validation losses of the EMA by step. */
  readonly losses = new Map<number, number>();
  /** The workers' Ready messages by rank; empty before the first step. */
  #ready: readonly Ready[] = [];
  /** What the workers of the last generation that has started compute on, by process; '' is the CPU. */
  #devices: ReadonlyMap<string, string> = new Map();
  /** The journal's line of the generation that formed. */
  #generation: { generation: number; [key: string]: unknown } = { generation: 0 };
  #lastCommit = 0;
  /** Seconds of suspension, and of a validation, since the last commit. */
  #suspendedSeconds = 0;
  #validationSeconds = 0;
  /** Seconds from the commit before the last to the last one, without a validation or suspension in between. */
  #stepSeconds = 0;
  readonly #validationProgress = new ValidationProgress();
  readonly #stragglers = new Stragglers();
  /** The last committed step of this process; 0 before the first. */
  #lastStep = 0;
  /** The last step that the journal says is on disk. */
  #synced = 0;
  /** The first step of this process. */
  #firstStep = 0;
  #pace: Pace | null = null;
  /** Checkpoints left out because another one was still being written. */
  #leftOut = 0;
  /** Rows with values that are not finite, which were named. */
  readonly #skipped = new Set<number>();

  /**
   * @param resolved `kept`: what is kept of the records; null: it is read when the run begins.
   * @param coordinatorRestarts How often a coordinator of the run has taken the place of another.
   */
  constructor(
    resolved: ResolvedRun & { rows: number; kept: KeptRecords | null },
    dir: RunDir,
    recorder: Recorder,
    coordinatorRestarts: number,
  ) {
    this.#coordinatorRestarts = coordinatorRestarts;
    this.#resolved = resolved;
    this.#dir = dir;
    this.#recorder = recorder;
    this.#trainedRows = resolved.rows - resolved.config.data.validation_rows;
  }

  /** The device of a worker; '' on the CPU, and before its process has said. */
  deviceOf(worker: DevicePlace): string {
    return this.#devices.get(processOf(worker)) ?? '';
  }

  /** After a suspension the step goes on where it was, so the time is not its own. That of a slow machine is. */
  stoodStill(standstill: Standstill): void {
    const { seconds, cause } = standstill;
    const isSuspension = cause === 'suspended' || cause === 'unknown';
    if (isSuspension) {
      this.#suspendedSeconds += seconds;
      this.#recorder.suspended(seconds);
    }
    this.#recorder.note(isSuspension ? 'info' : 'warn', describeStandstill(standstill));
  }

  heartbeat({ id, heartbeat }: Extract<Event, { type: 'heartbeat' }>): void {
    const slots = this.#validationProgress.heard(id, heartbeat.validated, this.#validationSlots);
    if (slots !== null) this.#recorder.validating(slots);
  }

  /**
   * A generation forms. Its line is in the journal once it has started: until the first one has, the run folder is
   * not changed. The number of a later one is there before any worker hears of it, so that it is not used twice.
   */
  generation(
    { generation, step, workers, isRestart, arithmetic }: ActionOf<'journal'>,
    minWorkers: number,
  ): void {
    this.#recorder.generation(generation);
    if (isRestart) this.#recorder.count('restarts', 1);
    this.#generation = {
      generation,
      step,
      checkpoint: this.#resolved.checkpoint?.path ?? null,
      segments: this.#resolved.segments,
      started_unix_seconds: this.#dir.started,
      workers,
      restart: isRestart,
      min_workers: minWorkers,
      arithmetic,
      coordinator_restarts: this.#coordinatorRestarts,
      unix_seconds: Date.now() / 1000,
    };
    if (!this.#dir.begun) return;
    const { journal } = this.#dir.records;
    journal.append({ generation, unix_seconds: Date.now() / 1000 });
    journal.sync();
  }

  /** All workers of the first generation are ready: from now on the run folder is changed. */
  #begin(firstStep: number, again: number | null): void {
    const kept = (step: number) => keptRecords(this.#dir.path, step);
    const { notes, warnings, losses, validations } =
      again === null
        ? this.#dir.begin(this.#resolved, this.#resolved.kept ?? kept(recordedStep(this.#resolved)))
        : this.#dir.continue(this.#resolved, kept(firstStep - 1));
    if (again !== null) this.#recorder.count('replayed_steps', again);
    const from = comparableFrom(this.#resolved.segments);
    for (const [step, loss] of losses) if (step >= from) this.losses.set(step, loss);
    this.#journalGeneration();
    this.#recorder.begin();
    const comparable = validations.filter(({ step }) => step >= from);
    const recordedSeconds = this.#dir.records.metrics.recorded.seconds;
    this.#recorder.start({ firstStep, validations: comparable, recordedSeconds });
    for (const note of notes) this.#recorder.note('info', note);
    for (const warning of warnings) this.#recorder.note('warn', warning);
  }

  #journalGeneration(): void {
    const { journal, metrics } = this.#dir.records;
    journal.append({ ...this.#generation, metrics: metrics.recorded });
    journal.sync();
  }

  /** All workers of a generation are ready. */
  started({ firstStep, ready: all, again }: ActionOf<'started'>, places: readonly Place[]): void {
    const begins = this.#ready.length === 0;
    this.#ready = all;
    this.#devices = new Map(places.map((place, rank) => [processOf(place), all[rank]!.device]));
    const ready = all[0]!;
    const { config } = this.#resolved;
    if (begins) this.#begin(firstStep, again);
    else this.#journalGeneration();
    this.#restartClock();
    if (!begins) {
      const who = describePlaces(places);
      const lost = this.#lastStep - firstStep + 1;
      // A step that not all had applied is run again where it is not known who had.
      if (lost > 1) {
        const steps = `steps ${firstStep} to ${this.#lastStep} are run again: no worker that is left holds their state`;
        this.#recorder.note('warn', steps);
      }
      this.#recorder.note('info', `the run continues after step ${firstStep - 1} with ${who}`);
      return;
    }
    this.#firstStep = firstStep;
    this.#synced = firstStep - 1;
    this.#pace = new Pace({
      firstStep,
      steps: config.schedule.steps,
      attentionEvery: config.telemetry.attention_every,
      validateEvery: validationEvery(config),
      validationPasses: this.#validationPasses(places),
      checkpointEvery: config.checkpoint.every,
      checkpointBytes: ready.parameters * 4 * (config.ema === null ? 3 : 4),
    });
    const workers = describePlaces(places);
    if (again !== null) {
      const compared =
        again === 0
          ? ''
          : `; ${counted(again, 'step')} of the former coordinator ${again === 1 ? 'is' : 'are'} run again and compared`;
      this.#recorder.note(
        'info',
        `the run continues after step ${firstStep - 1}, whose state its workers have kept, with ${workers}${compared}`,
      );
      return;
    }
    this.#recorder.note(
      'info',
      `${(ready.parameters / 1e6).toFixed(2)} M parameters in ${ready.precision}; ${describeBatch(config)}; ${workers}`,
    );
    const gpus = all.flatMap(({ device }, rank) => (device === '' ? [] : [`rank ${rank} on ${device}`]));
    if (gpus.length > 0) this.#recorder.note('info', gpus.join('; '));
    const { steps } = config.schedule;
    const held = config.data.validation_rows;
    const data = `data ${config.data.path}: ${counted(this.#trainedRows, 'row')} to train on, ${held} held out`;
    // Other starts are in the notes of how the run was found.
    const { checkpoint } = this.#resolved;
    const weights = checkpoint === null && config.init === null ? [`weights from seed ${config.seed}`] : [];
    for (const line of [...weights, data, `${stepsText(firstStep, steps)}, run folder ${this.#dir.path}`])
      this.#recorder.note('info', line);
  }

  /** Called before the workers hear of the commit, so that a validation lies between two calls. */
  commit({ step, prepared, digest }: ActionOf<'commit'>): void {
    const elsewhere = this.#validationSeconds + this.#suspendedSeconds;
    this.#stepSeconds = (performance.now() - this.#lastCommit) / 1000 - elsewhere;
    this.#restartClock();
    const samples = slotSamples(this.#resolved.config);
    this.#dir.records.ledger.append(ledgerLine(step, samples, stepRows(prepared), digest));
  }

  /** The next step begins, after a commit or in a new generation: what was before is not part of its time. */
  #restartClock(): void {
    this.#lastCommit = performance.now();
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

  /** Records the numbers of a committed step. */
  step({ step, prepared, places, validate }: ActionOf<'record'>): void {
    this.#lastStep = step;
    this.#validationProgress.committed(validate);
    const seconds = this.#stepSeconds;
    this.#pace?.add(step, seconds, forwardShare(prepared, seconds));
    this.#countSkipped(skippedRows(prepared));
    const { config } = this.#resolved;
    const { steps } = config.schedule;
    const workers = places.map((worker, rank) => ({
      ...worker,
      device: this.deviceOf(worker),
      numbers: workerNumbers(prepared[rank]!.numbers),
    }));
    for (const { level, message } of this.#stragglers.step(workers)) this.#recorder.note(level, message);
    this.#recorder.step({
      step,
      steps,
      epoch: (step * config.batch.global) / this.#trainedRows,
      logged: isLogged(config, step, this.#firstStep),
      attentionLogged: isAttentionLogged(config, step, this.#firstStep),
      loss: stepLoss(prepared),
      gradientNorm: prepared[0]!.gradientNorm,
      clipNorm: config.optimizer.clip_norm,
      learningRate: learningRate(config, step),
      seconds,
      recordedSeconds: this.#dir.records.metrics.recorded.seconds + seconds,
      samples: config.batch.global,
      flops: (this.#ready[0]?.flopsPerSlot ?? 0) * slotCount(config),
      matmulPeak: this.#ready.reduce((sum, { matmulPeak }) => sum + matmulPeak, 0),
      times: lossByTime(prepared),
      attention: attentionSummary(prepared),
      gradientNorms: prepared[0]!.gradientNorms,
      workers,
      stragglers: this.#stragglers.all,
      validating: validate,
      eta: this.#pace?.remaining(step) ?? null,
    });
    if (step >= this.#synced + SYNC_STEPS) this.sync(step);
    const forecast = this.#pace?.forecast() ?? null;
    if (forecast !== null) this.#recorder.note('info', forecast);
  }

  /** Slots of a validation, with all its weights. */
  get #validationSlots(): number {
    return (this.#ready[0]?.validation.length ?? 0) * validatedWeights(this.#resolved.config).length;
  }

  /** Forward passes of a validation over those of a step, by the worker that has the most of each. */
  #validationPasses(places: readonly Place[]): number {
    const most = Math.max(...places.map(({ firstSlot, endSlot }) => endSlot - firstSlot));
    return Math.ceil(this.#validationSlots / places.length) / (most * this.#resolved.config.batch.accumulate);
  }

  validation({ step, parts }: ActionOf<'validation'>): void {
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
    this.losses.set(step, loss);
    const isBest = bestStep([...this.losses.keys()], this.losses) === step;
    if (isBest && this.#resolved.config.checkpoint.keep_best) {
      this.#recorder.note('info', `step ${step} has the lowest validation loss of the EMA so far`);
    }
  }

  /** Brings ledger and metrics to the disk, and says so in the journal. */
  sync(step: number): void {
    const { ledger, metrics, journal } = this.#dir.records;
    ledger.sync();
    metrics.sync();
    const { generation } = this.#generation;
    journal.append({ generation, step, unix_seconds: Date.now() / 1000, metrics: metrics.recorded });
    journal.sync();
    this.#synced = step;
  }

  checkpoint(checkpoint: CheckpointRecord): void {
    this.#pace?.saved(checkpoint.seconds);
    this.#recorder.checkpoint(checkpoint);
  }

  /** Where the disk is always slower than training, the user is told of the 1st, 10th, 100th, ... left out. */
  missedCheckpoint(missed: MissedCheckpoint): void {
    // When a checkpoint is left out, another one is still being written.
    if (missed.reason === 'failed') this.#pace?.saved(null);
    this.#recorder.missedCheckpoint(missed);
    if (missed.reason === 'skipped') {
      this.#leftOut++;
      if (!/^10*$/.test(String(this.#leftOut))) return;
      if (this.#leftOut > 1) this.#recorder.note('warn', `${this.#leftOut} checkpoints were left out so far`);
    }
    this.fault('warn', missed.fault);
  }

  /** Notes what went wrong, and what to do. */
  fault(level: 'warn' | 'error', fault: Fault): void {
    const [what, ...hints] = faultLines(fault);
    this.#recorder.note(level, what);
    for (const hint of hints) this.#recorder.note('notice', hint);
  }
}

/** A process that may have a device. */
type DevicePlace = { id: string; pid?: number | null };

const processOf = ({ id, pid }: DevicePlace) => `${id} ${pid}`;

/** "rank 0 (pid 4242): slots 0-1, rank 1 (pid 4243): slots 2-3"; "(pid 4242 on a)" where there are several hosts. */
export function describePlaces(places: readonly Place[]): string {
  const several = places.some(({ host }) => host !== places[0]!.host);
  return named(places.map((place) => describePlace(place, several)));
}

function describePlace({ rank, pid, host, firstSlot, endSlot }: Place, withHost: boolean): string {
  const where = withHost ? ` on ${host}` : '';
  return `rank ${rank} (pid ${pid}${where}): ${describeSlots({ lo: firstSlot, hi: endSlot })}`;
}
