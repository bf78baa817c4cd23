/** The validations that a run has recorded. */
import { join } from 'node:path';
import type { Mapping } from '../files/json.js';
import { completeLines, parseLine } from '../files/jsonl.js';
import { METRICS } from '../run-folder/run-dir.js';
import { validationResults } from '../telemetry/metrics-reader.js';

interface Losses {
  mean: number;
  /** By log-SNR; empty in runs of earlier versions. */
  epsilon_error: Record<string, number>;
}

export interface Validation {
  step: number;
  ema?: Losses;
  master?: Losses;
}

/** In ascending order of steps; none if the run has not validated. */
export function validationsOf(runDir: string): Validation[] {
  const found: Validation[] = [];
  for (const line of validationLines(runDir)) {
    const results = validationResults(line);
    if (typeof line.step !== 'number' || results.length === 0) continue;
    const losses = results.map(({ weights, mean, epsilon }) => [weights, { mean, epsilon_error: epsilon }]);
    found.push({ step: line.step, ...Object.fromEntries(losses) });
  }
  return found;
}

/** The other lines, of which there may be many, are not parsed. */
function* validationLines(runDir: string): Generator<Mapping> {
  for (const { line } of completeLines(join(runDir, METRICS))) {
    const parsed = line.startsWith('{"type":"validation"') ? parseLine(line) : null;
    if (parsed !== null) yield parsed;
  }
}

/** The steps after which a run validates: every so many, and the last one. */
export interface ValidatedSteps {
  every: number;
  /** Steps of the whole run. */
  steps: number;
}

/**
 * The first validation up to a step that a run has not recorded; null if none is missing. A run that is stopped
 * while it validates leaves that validation out for good.
 */
export function missingValidation(
  runDir: string,
  { every, steps }: ValidatedSteps,
  upTo: number,
): number | null {
  // Also one whose loss was not finite: JSON has no such number, but it was done.
  const found = new Set<unknown>([...validationLines(runDir)].map(({ step }) => step));
  for (let step = every; step <= upTo; step += every) if (!found.has(step)) return step;
  return upTo === steps && !found.has(steps) ? steps : null;
}
