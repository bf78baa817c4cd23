/** What a coordinator that has died has left in its records, for the one that is started in its place. */
import { join } from 'node:path';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { checkpointSteps } from '../checkpoint/retention.js';
import { parseLine } from '../files/jsonl.js';
import { linesFromEnd, offsetOfStep } from '../files/jsonl-seek.js';
import type { Former } from './events.js';
import { recordedResult } from './ledger-file.js';
import { MetricsTotals } from './metrics-totals.js';
import { recordedAt, STEP_LINE } from './recorded-run.js';
import { journalOf, type KeptRecords, LEDGER, METRICS } from './run-dir.js';

/**
 * Reads the records from their end, however long they are.
 *
 * @param again Whether its workers are known to wait for another coordinator.
 */
export function formerOf(runDir: string, resumeStep: number, again: boolean): Former {
  const { workers, arithmetic } = journalOf(runDir);
  return {
    members: again ? workers.map(({ id }) => id) : [],
    arithmetic: again ? arithmetic : null,
    committed: Math.max(resumeStep, lastCommitted(join(runDir, LEDGER))),
    validated: (upTo) => lastValidated(join(runDir, METRICS), resumeStep, upTo),
    digestOf: (step) => recordedResult(runDir, step),
  };
}

/** The step of the last line of a ledger that is not damaged; 0 if there is none. */
function lastCommitted(ledger: string): number {
  for (const { line } of linesFromEnd(ledger)) {
    const step = parseLine(line)?.step;
    if (typeof step === 'number') return step;
  }
  return 0;
}

/** The last step after `since`, up to `upTo`, whose validation is recorded; `since` if there is none. */
function lastValidated(metrics: string, since: number, upTo: number): number {
  for (const { line } of linesFromEnd(metrics)) {
    const [, type, step] = /^{"type":"(step|validation)","step":(\d+),/.exec(line) ?? [];
    if (type === undefined || parseLine(line) === null) continue;
    if (Number(step) <= since) return since;
    if (type === 'validation' && Number(step) <= upTo) return Number(step);
  }
  return since;
}

/**
 * What is kept of the records when the run continues after a step. Of long files only little is read: validations are
 * those of steps with a checkpoint, and the last and the best one.
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
  return { bytes, totals, losses, validations };
}
