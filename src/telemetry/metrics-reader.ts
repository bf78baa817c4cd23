/** Reads lines of metrics.jsonl, those of earlier versions, too. */
import { isMapping, type Mapping } from '../files/json.js';

/** The result of a validation for one kind of weights, as far as a line has it. */
export interface ValidationResult {
  weights: string;
  mean: number;
  /** Squared error of the noise estimate by log-SNR ("log_snr=-5.25"); none in runs of earlier versions. */
  epsilon: Record<string, number>;
}

/** The results of a line, the EMA's first; none if it is not of a validation. */
export function validationResults(line: Mapping): ValidationResult[] {
  if (line.type !== 'validation') return [];
  return ['ema', 'master'].flatMap((weights) => {
    // In earlier versions the results of each kind of weights were an object.
    const before = isMapping(line[weights]) ? line[weights] : null;
    const mean = before === null ? line[`val_${weights}`] : before.mean;
    if (typeof mean !== 'number') return [];
    const flat = Object.entries(line).map(([key, value]) => [
      key.replace(`val_${weights}_log_snr_`, 'log_snr='),
      value,
    ]);
    const errors = isMapping(before?.epsilon_error) ? Object.entries(before.epsilon_error) : flat;
    const epsilon = errors.filter(
      ([name, error]) => /^log_snr=/.test(String(name)) && typeof error === 'number',
    );
    return [{ weights, mean, epsilon: Object.fromEntries(epsilon) }];
  });
}
