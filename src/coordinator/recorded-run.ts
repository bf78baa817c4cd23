/** What the files of a run folder say about the run, whether it is running or not. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { MANIFEST } from '../checkpoint/manifest.js';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { listCheckpoints } from '../checkpoint/retention.js';
import { validatedWeights } from '../config/derived.js';
import { storedConfig } from '../config/resume.js';
import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { textOrNull } from '../files/io.js';
import { isMapping, type Mapping } from '../files/json.js';
import { completeLines, parseLine } from '../files/jsonl.js';
import { linesFromEnd, offsetOfStep } from '../files/jsonl-seek.js';
import { lockOwner } from '../native/lock.js';
import { phaseOf } from '../telemetry/events.js';
import { type ValidationResult, validationResults } from '../telemetry/metrics-reader.js';
import type { StepRecord } from '../telemetry/record.js';
import {
  comparedLoss,
  RunProgress,
  type RunView,
  type ValidationLoss,
  WINDOW,
} from '../telemetry/run-progress.js';
import { Curve } from './curve.js';
import { ENDED } from './events.js';
import { MetricsTotals } from './metrics-totals.js';
import { CONFIG, journalOf, LOCK, LOG, METRICS } from './run-dir.js';

export interface RecordedRun {
  config: Config;
  view: RunView;
  /** The last step in metrics.jsonl; 0: none. */
  lastLoss: number;
  /** When the last line was written to metrics.jsonl, in seconds since 1970; null if there is none. */
  lastWritten: number | null;
}

/** The effective configuration of a run, from its folder. */
export function recordedConfig(runDir: string): Config {
  const path = join(runDir, CONFIG);
  const text = textOrNull(path);
  if (text === null) {
    throw new OrchestratorError(
      'ERR_RUN_DIR',
      `${runDir} has no ${CONFIG}: its run has not begun, or it is not of a run`,
    );
  }
  return storedConfig(parsed(text, path), path);
}

function parsed(text: string, path: string): unknown {
  try {
    return parse(text, { prettyErrors: false, logLevel: 'error' });
  } catch (error) {
    throw new OrchestratorError('ERR_CONFIG', `${path} is no YAML: ${(error as Error).message}`);
  }
}

export async function recordedRun(runDir: string): Promise<RecordedRun> {
  const config = recordedConfig(runDir);
  const { steps } = config.schedule;
  const { restarts, workers, metrics, coordinatorRestarts } = journalOf(runDir);
  const path = join(runDir, METRICS);
  let clock = Date.now();
  const progress = new RunProgress(
    {
      name: config.name,
      run: config.name,
      steps,
      workers: workers.length,
      checkpointEvery: config.checkpoint.every,
      resumedStep: 0,
      runDir,
      checkpoint: null,
      restarts,
      coordinatorRestarts,
      validatedWeights:
        comparedLoss(validatedWeights(config).map((weights) => ({ weights })))?.weights ?? null,
    },
    () => clock,
  );
  // The file was cut since, if it is shorter; then the totals are not its own.
  const isOf = metrics !== null && existsSync(path) && statSync(path).size >= metrics.bytes;
  const totals = MetricsTotals.of(path, isOf ? metrics : null);
  let lastWritten: number | null = null;
  const tail: Mapping[] = [];
  for (const { line } of linesFromEnd(path)) {
    const record = parseLine(line);
    if (typeof record?.unix_seconds === 'number') lastWritten ??= record.unix_seconds;
    if (record?.type === 'step' && tail.push(record) === WINDOW) break;
  }
  for (const record of tail.reverse()) progress.step(stepRecord(record, steps, config.optimizer.clip_norm));
  const [checkpoint] = await listCheckpoints(join(runDir, CHECKPOINTS));
  if (checkpoint !== undefined) {
    clock = statSync(join(checkpoint.path, MANIFEST)).mtimeMs;
    progress.checkpoint(checkpoint);
  }
  const phase = phaseIn(runDir);
  progress.listWorkers = () =>
    workers.map(({ id, host, pid }, rank) => ({ rank, id, host, pid, state: 'unknown', device: '' }));
  // Its coordinator may have died between the last checkpoint and its own end.
  const isComplete = phase === 'KILLED' && checkpoint !== undefined && checkpoint.step >= steps;
  progress.phase(isComplete ? 'DONE' : phase);
  clock = Date.now();
  const view = {
    ...progress.view(),
    elapsed_seconds: totals.seconds,
    validation: totals.validation,
    missed_checkpoints: totals.missedCheckpoints,
  };
  const step = Math.max(view.step, checkpoint?.step ?? 0);
  return { config, view: { ...view, step }, lastLoss: progress.lastStep?.step ?? 0, lastWritten };
}

/** The last phase in the log; KILLED if the run is not there any more, and did not say that it ended. */
function phaseIn(runDir: string): string {
  let phase: string | null = null;
  for (const { line } of linesFromEnd(join(runDir, LOG))) {
    const event = line.includes('"phase"') ? parseLine(line) : null;
    phase = event === null ? null : phaseOf(event);
    if (phase !== null) break;
  }
  const isAlive = lockOwner(join(runDir, LOCK)) !== null;
  if (isAlive) return phase === null || ENDED.has(phase) ? 'STARTING' : phase;
  return phase !== null && ENDED.has(phase) ? phase : 'KILLED';
}

function stepRecord(line: Mapping, steps: number, clipNorm: number): StepRecord {
  const number = (name: string) => (typeof line[name] === 'number' ? (line[name] as number) : Number.NaN);
  const seconds = number('seconds');
  return {
    step: number('step'),
    steps,
    epoch: number('epoch'),
    logged: false,
    attentionLogged: false,
    loss: number('loss'),
    gradientNorm: number('gradient_norm'),
    clipNorm,
    learningRate: number('learning_rate'),
    seconds,
    recordedSeconds: 0,
    samples: number('samples_per_second') * seconds,
    flops: number('flops_per_second') * seconds,
    matmulPeak: 0,
    times: [],
    attention: largestLogits(line).map((maxAbsLogit) => ({
      ...{ name: '', stream: '', maxAbsLogit, meanEntropy: 0, rows: 1, logitBound: 0 },
    })),
    gradientNorms: {},
    workers: [],
    validating: false,
    stragglers: [],
    eta: null,
  };
}

/** The largest logit of a sampled step; in lines of earlier versions, that of each attention. */
function largestLogits({ max_abs_logit: largest, attention }: Mapping): number[] {
  if (typeof largest === 'number') return [largest];
  const each = isMapping(attention) ? Object.values(attention) : [];
  return each.flatMap((of) =>
    isMapping(of) && typeof of.max_abs_logit === 'number' ? [of.max_abs_logit] : [],
  );
}

interface LossSeries {
  losses: ValidationLoss[];
  validations: ValidationLoss[];
}

/**
 * The losses of a run as curves of at most `points` points, for which the whole file is read. A point is the mean
 * over neighbouring steps, or over neighbouring validations, and lies at the last of them.
 */
export function recordedCurves(runDir: string, points: number) {
  const losses = new Curve(points);
  const validations = new Curve(points);
  for (const { line } of completeLines(join(runDir, METRICS))) {
    const found = STEP_LOSS.exec(line);
    if (found !== null) losses.add({ step: Number(found[1]), loss: Number(found[2]) });
    else {
      const compared = validationOf(parseLine(line) ?? {});
      if (compared !== null) validations.add(compared);
    }
  }
  return { losses: losses.points, validations: validations.points };
}

function addLosses(series: LossSeries, line: string): void {
  const record = parseLine(line);
  const { type, step, loss } = record ?? {};
  if (record === null || typeof step !== 'number') return;
  if (type === 'step' && typeof loss === 'number') series.losses.push({ step, loss });
  const compared = validationOf(record);
  if (compared !== null) series.validations.push(compared);
}

function validationOf(line: Mapping): ValidationLoss | null {
  const compared = comparedLoss(validationResults(line));
  return compared === undefined || typeof line.step !== 'number'
    ? null
    : { step: line.step, loss: compared.mean };
}

/** The two numbers that are needed of a step; there may be half a million, so their lines are not parsed. */
const STEP_LOSS = /^{"type":"step","step":(\d+),"loss":(-?[\d.e+-]+),/;
/** A line of metrics.jsonl that begins a step; its group is the step. */
export const STEP_LINE = /^{"type":"step","step":(\d+),/;

/**
 * The mean loss of the last steps up to a step, and the last validation up to it; null if there are none.
 *
 * @param validated Whether the run has recorded a validation; otherwise none is searched for.
 */
export function recordedUpTo(runDir: string, step: number, validated: boolean) {
  const path = join(runDir, METRICS);
  const series: LossSeries = { losses: [], validations: [] };
  for (const { line } of linesFromEnd(path, offsetOfStep(path, step + 1, STEP_LINE))) {
    const isEnough = series.losses.length === WINDOW;
    if (!isEnough || line.startsWith('{"type":"validation"')) addLosses(series, line);
    if (isEnough && (series.validations.length > 0 || !validated)) break;
  }
  const { losses, validations } = series;
  const sum = losses.reduce((total, { loss }) => total + loss, 0);
  return { loss: losses.length === 0 ? null : sum / losses.length, validation: validations[0] ?? null };
}

/** The loss of a step, and of the validation after it, as far as a folder has records of them. */
export function recordedAt(runDir: string, step: number) {
  const found: { loss: number | null; validation: Pick<ValidationResult, 'weights' | 'mean'> | null } = {
    loss: null,
    validation: null,
  };
  const path = join(runDir, METRICS);
  for (const { line } of completeLines(path, offsetOfStep(path, step, STEP_LINE))) {
    if (Number(STEP_LINE.exec(line)?.[1] ?? step) > step) break;
    const record = parseLine(line);
    if (record?.step !== step) continue;
    if (record.type === 'step' && typeof record.loss === 'number') found.loss = record.loss;
    const compared = comparedLoss(validationResults(record));
    if (compared !== undefined) found.validation = { weights: compared.weights, mean: compared.mean };
  }
  return found;
}
