/** The validations that a run has recorded. */
import { join } from 'node:path';
import { leadingLines } from '../files/jsonl.js';
import { validationResults } from '../telemetry/metrics-reader.js';

interface Losses {
  mean: number;
  /** By log-SNR; empty in runs of earlier versions. */
  epsilon_error: Record<string, number>;
}

export interface Validation {
  type: 'validation';
  step: number;
  ema?: Losses;
  master?: Losses;
}

/** In ascending order of steps; none if the run has not validated. */
export function validationsOf(runDir: string): Validation[] {
  const found: Validation[] = [];
  leadingLines(join(runDir, 'metrics.jsonl'), (line) => {
    const results = validationResults(line);
    if (typeof line.step !== 'number' || results.length === 0) return true;
    const losses = results.map(({ weights, mean, epsilon }) => [weights, { mean, epsilon_error: epsilon }]);
    found.push({ type: 'validation', step: line.step, ...Object.fromEntries(losses) });
    return true;
  });
  return found;
}

/**
 * The first validation up to a step that a run has not recorded; null if none is missing. A run that is stopped
 * while it validates leaves that validation out for good.
 *
 * @param every steps between two validations.
 */
export function missingValidation(runDir: string, every: number, upTo: number): number | null {
  const found = new Set(validationsOf(runDir).map(({ step }) => step));
  for (let step = every; step <= upTo; step += every) if (!found.has(step)) return step;
  return null;
}
