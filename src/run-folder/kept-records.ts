/** Reads the part of a run's records that stays valid when the run resumes from a step. It changes no file. */
import { join } from 'node:path';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { checkpointSteps } from '../checkpoint/retention.js';
import type { Mapping } from '../files/json.js';
import { damageOf, leadingLinesOfLong } from '../files/jsonl.js';
import { offsetOfStep } from '../files/jsonl-seek.js';
import { validationResults } from '../telemetry/metrics-reader.js';
import { comparedLoss, type ValidationLoss } from '../telemetry/run-progress.js';
import { MetricsTotals } from './metrics-totals.js';
import { recordedAt, STEP_LINE } from './recorded-run.js';
import { journalOf, type KeptRecords, LEDGER, METRICS } from './run-dir.js';

/** Reads the whole records, which takes seconds after half a million steps, and in which nobody else has to wait. */
export async function readRecords(runDir: string, step: number): Promise<KeptRecords> {
  const upTo = (line: Mapping): line is Mapping & { step: number } =>
    typeof line.step === 'number' && line.step <= step;
  const paths = { ledger: join(runDir, LEDGER), metrics: join(runDir, METRICS) };
  let lastStep = 0;
  const ledger = await leadingLinesOfLong(paths.ledger, (line) => {
    if (!upTo(line)) return false;
    lastStep = line.step;
    return true;
  });
  const losses = new Map<number, number>();
  const validations: ValidationLoss[] = [];
  const totals = new MetricsTotals();
  const metrics = await leadingLinesOfLong(paths.metrics, (line) => {
    if (!upTo(line)) return false;
    totals.add(line);
    const compared = comparedLoss(validationResults(line));
    if (compared !== undefined) validations.push({ step: line.step, loss: compared.mean });
    if (compared?.weights === 'ema') losses.set(line.step, compared.mean);
    return true;
  });
  const missing =
    lastStep < step
      ? `${paths.ledger} ends at step ${lastStep}, before the checkpoint: the steps up to ${step} are not in it. Training is not affected`
      : null;
  const warnings = [damageOf(paths.ledger, ledger), missing, damageOf(paths.metrics, metrics)];
  return {
    bytes: { ledger: ledger.bytes, metrics: metrics.bytes },
    ...{ totals, losses, validations },
    warnings: warnings.filter((warning) => warning !== null),
  };
}

/**
 * The same for a coordinator that takes the place of another, for which workers wait. Of long files only little is
 * read: validations are those of steps with a checkpoint, and the last and the best one. Damage is not searched for.
 */
export function keptRecords(runDir: string, step: number): KeptRecords {
  const metrics = join(runDir, METRICS);
  const bytes = {
    ledger: offsetOfStep(join(runDir, LEDGER), step + 1, /^{"step":(\d+),/),
    metrics: offsetOfStep(metrics, step + 1, STEP_LINE),
  };
  const { metrics: before } = journalOf(runDir);
  const isKept = before !== null && before.bytes <= bytes.metrics;
  const totals = MetricsTotals.of(metrics, isKept ? before : null, bytes.metrics);
  const losses = new Map<number, number>();
  for (const saved of checkpointSteps(join(runDir, CHECKPOINTS))) {
    const { validation } = recordedAt(runDir, saved);
    if (saved <= step && validation?.weights === 'ema') losses.set(saved, validation.mean);
  }
  const { best, last } = totals.validation ?? {};
  const validations = [best, last].filter((one) => one !== undefined && one !== null);
  return { bytes, totals, losses, validations, warnings: [] };
}
