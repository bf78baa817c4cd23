/** metrics.jsonl: one object per step, validation, checkpoint and missed checkpoint. Names are snake_case, with the unit. */
import type { JsonlFile } from '../files/jsonl.js';
import { STEP_NUMBERS } from './metrics.js';
import type { Sink, StepRecord, ValidationSummary, WorkerReport } from './record.js';

/** @param open gives the file when the first step is about to begin. */
export function metricsFile(open: () => JsonlFile): Sink {
  let file: JsonlFile | null = null;
  return {
    begin: () => {
      file = open();
    },
    step: (record) => file?.append(stepObject(record)),
    validation: ({ step, seconds, results }) => {
      const byName = (losses: ValidationSummary['bins']) =>
        Object.fromEntries(losses.map(({ name, loss }) => [name, loss]));
      const weights = results.map(({ weights, mean, bins, epsilon }) => [
        weights,
        { mean, bins: byName(bins), epsilon_error: byName(epsilon) },
      ]);
      file?.append({ type: 'validation', step, seconds, ...Object.fromEntries(weights) });
    },
    checkpoint: ({ step, path, seconds, stallSeconds }) =>
      file?.append({ type: 'checkpoint', step, path, seconds, stall_seconds: stallSeconds }),
    missedCheckpoint: ({ step, reason, fault: { code, message } }) =>
      file?.append({ type: 'missed_checkpoint', step, reason, code, message }),
  };
}

export function stepObject(record: StepRecord): object {
  const numbers = Object.entries(STEP_NUMBERS).map(([key, [, value]]) => [key, value(record)]);
  const attention = record.attention.map(({ name, maxAbsLogit, meanEntropy }) => [
    name,
    { max_abs_logit: maxAbsLogit, mean_entropy_nats: meanEntropy },
  ]);
  return {
    type: 'step',
    ...Object.fromEntries(numbers),
    ...(attention.length > 0 && { attention: Object.fromEntries(attention) }),
    workers: record.workers.map(workerObject),
    unix_seconds: Date.now() / 1000,
  };
}

function workerObject({ rank, device, numbers }: WorkerReport): object {
  const { device_bytes, ...others } = numbers;
  return device === '' ? { rank, ...others } : { rank, ...others, device, device_bytes };
}
