/** Reads lines of metrics.jsonl, those of earlier versions, too. */
import { isMapping, type Mapping } from '../files/json.js';

/** The result of a validation for one kind of weights, as far as a line has it. */
export interface ValidationResult {
  weights: string;
  mean: number;
}

/** The results of a line, the EMA's first; none if it is not of a validation. */
export function validationResults(line: Mapping): ValidationResult[] {
  if (line.type !== 'validation') return [];
  return ['ema', 'master'].flatMap((weights) => {
    const before = line[weights];
    // In earlier versions the results of each kind of weights were an object.
    const mean = line[`val_${weights}`] ?? (isMapping(before) ? before.mean : null);
    return typeof mean === 'number' ? [{ weights, mean }] : [];
  });
}
