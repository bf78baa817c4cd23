/** What the files of a run folder say about the run, whether it is running or not. */
import { statSync } from 'node:fs';
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
import { CONFIG, journalOf, LOCK, LOG, METRICS } from './run-dir.js';

/** The phases in which a run has ended. A run that was killed could not say so. */
const ENDED: ReadonlySet<string> = new Set(['DONE', 'STOPPED', 'FAILED']);

export interface RecordedRun {
  config: Config;
  view: RunView;
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
    return parse(text, { prettyErrors: false });
  } catch (error) {
    throw new OrchestratorError('ERR_CONFIG', `${path} is no YAML: ${(error as Error).message}`);
  }
}

export async function recordedRun(runDir: string): Promise<RecordedRun> {
  const config = recordedConfig(runDir);
  const { steps } = config.schedule;
  const { lastGeneration, workers } = journalOf(runDir);
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
      restarts: Math.max(0, lastGeneration - 1),
      validatedWeights:
        comparedLoss(validatedWeights(config).map((weights) => ({ weights })))?.weights ?? null,
    },
    () => clock,
  );
  // Of the steps only the last are parsed, because there may be a million.
  const tail: string[] = [];
  let seconds = 0;
  const others: Mapping[] = [];
  for (const { line } of completeLines(join(runDir, METRICS))) {
    if (/^{"type":"step"/.test(line)) {
      tail.push(line);
      if (tail.length > WINDOW) tail.shift();
      seconds += Number(/"seconds":([^,}]+)/.exec(line)?.[1] ?? 0);
    } else {
      const other = parseLine(line);
      if (other !== null) others.push(other);
    }
  }
  let lastWritten: number | null = null;
  const last = tail.map(parseLine).filter((record) => record !== null);
  for (const record of [...others, ...last]) {
    if (typeof record.unix_seconds === 'number') {
      lastWritten = Math.max(lastWritten ?? 0, record.unix_seconds);
      clock = 1000 * record.unix_seconds;
    }
    if (record.type === 'step') progress.step(stepRecord(record, steps));
    if (record.type === 'missed_checkpoint') progress.missedCheckpoint();
    if (record.type !== 'validation') continue;
    const duration = typeof record.seconds === 'number' ? record.seconds : 0;
    seconds += duration;
    const results = validationResults(record).map(({ weights, mean }) => ({
      weights,
      mean,
      bins: [],
      epsilon: [],
    }));
    progress.validation({ step: record.step as number, seconds: duration, results, emaDistance: null });
  }
  const [checkpoint] = await listCheckpoints(join(runDir, CHECKPOINTS));
  if (checkpoint !== undefined) {
    clock = statSync(join(checkpoint.path, MANIFEST)).mtimeMs;
    progress.checkpoint(checkpoint);
  }
  progress.phase(phaseIn(runDir));
  clock = Date.now();
  const view = progress.view();
  const step = Math.max(view.step, checkpoint?.step ?? 0);
  return { config, view: { ...view, step, elapsed_seconds: seconds }, lastWritten };
}

/** The last phase in the log; KILLED if the run is not there any more, and did not say that it ended. */
function phaseIn(runDir: string): string {
  let phase: string | null = null;
  for (const { line } of completeLines(join(runDir, LOG))) {
    if (!line.includes('"phase"')) continue;
    const event = parseLine(line);
    phase = (event === null ? null : phaseOf(event)) ?? phase;
  }
  const isAlive = lockOwner(join(runDir, LOCK)) !== null;
  if (isAlive) return phase === null || ENDED.has(phase) ? 'STARTING' : phase;
  return phase !== null && ENDED.has(phase) ? phase : 'KILLED';
}

function stepRecord(line: Mapping, steps: number): StepRecord {
  const number = (name: string) => (typeof line[name] === 'number' ? (line[name] as number) : Number.NaN);
  const seconds = number('seconds');
  const attention = isMapping(line.attention) ? Object.values(line.attention) : [];
  return {
    step: number('step'),
    steps,
    epoch: number('epoch'),
    logged: false,
    loss: number('loss'),
    gradientNorm: number('gradient_norm'),
    learningRate: number('learning_rate'),
    seconds,
    samples: number('samples_per_second') * seconds,
    flops: number('flops_per_second') * seconds,
    matmulPeak: 0,
    times: [],
    attention: attention.flatMap((of) =>
      isMapping(of) && typeof of.max_abs_logit === 'number'
        ? [{ name: '', stream: '', maxAbsLogit: of.max_abs_logit, meanEntropy: 0, rows: 1, logitBound: 0 }]
        : [],
    ),
    gradientNorms: {},
    workers: [],
    validating: false,
    etaSeconds: null,
  };
}

export interface LossSeries {
  losses: ValidationLoss[];
  validations: ValidationLoss[];
}

/** The losses of all steps and validations of a run. */
export function recordedLosses(runDir: string): LossSeries {
  const series: LossSeries = { losses: [], validations: [] };
  for (const { line } of completeLines(join(runDir, METRICS))) {
    const record = parseLine(line);
    const { step, loss } = record ?? {};
    if (record === null || typeof step !== 'number') continue;
    if (record.type === 'step' && typeof loss === 'number') series.losses.push({ step, loss });
    const compared = comparedLoss(validationResults(record));
    if (compared !== undefined) series.validations.push({ step, loss: compared.mean });
  }
  return series;
}

/** The loss of a step, and of the validation after it, as far as a folder has records of them. */
export function recordedAt(runDir: string, step: number) {
  const found: { loss: number | null; validation: Pick<ValidationResult, 'weights' | 'mean'> | null } = {
    loss: null,
    validation: null,
  };
  const ofStep = new RegExp(`"step":${step}[,}]`);
  for (const { line } of completeLines(join(runDir, METRICS))) {
    const record = ofStep.test(line) ? parseLine(line) : null;
    if (record?.step !== step) continue;
    if (record.type === 'step' && typeof record.loss === 'number') found.loss = record.loss;
    const compared = comparedLoss(validationResults(record));
    if (compared !== undefined) found.validation = { weights: compared.weights, mean: compared.mean };
  }
  return found;
}
