/** metrics.jsonl: one object per step, validation, checkpoint and missed checkpoint. Names are snake_case, with the unit. */
import type { JsonlFile } from '../files/jsonl.js';
import { STEP_NUMBERS } from './metrics.js';
import type { AttentionSummary, Sink, StepRecord, ValidationSummary, WorkerReport } from './record.js';

/** @param open gives the file when the first step is about to begin. */
export function metricsFile(open: () => JsonlFile): Sink {
  let file: JsonlFile | null = null;
  return {
    begin: () => {
      file = open();
    },
    step: (record) => file?.append(stepObject(record)),
    validation: ({ step, seconds, results, emaDistance }) => {
      const byName = (losses: ValidationSummary['bins']) =>
        Object.fromEntries(losses.map(({ name, loss }) => [name, loss]));
      const weights = results.map(({ weights, mean, bins, epsilon }) => [
        weights,
        { mean, bins: byName(bins), epsilon_error: byName(epsilon) },
      ]);
      const distance = emaDistance === null ? {} : { ema_distance: emaDistance };
      file?.append({ type: 'validation', step, seconds, ...Object.fromEntries(weights), ...distance });
    },
    checkpoint: ({ step, path, seconds, stallSeconds, bytes }) =>
      file?.append({ type: 'checkpoint', step, path, seconds, stall_seconds: stallSeconds, bytes }),
    missedCheckpoint: ({ step, reason, fault: { code, message } }) =>
      file?.append({ type: 'missed_checkpoint', step, reason, code, message }),
  };
}

export function stepObject(record: StepRecord): object {
  const numbers = Object.entries(STEP_NUMBERS).map(([key, [, value]]) => [key, value(record)]);
  return {
    type: 'step',
    ...Object.fromEntries(numbers),
    ...(record.attention.length > 0 && { attention: attentionObject(record.attention) }),
    ...(Object.keys(record.gradientNorms).length > 0 && { gradient_norms: record.gradientNorms }),
    workers: record.workers.map(workerObject),
    unix_seconds: Date.now() / 1000,
  };
}

/** By attention: the numbers of all its queries, and those of each stream. */
function attentionObject(summaries: readonly AttentionSummary[]): object {
  const names = [...new Set(summaries.map(({ name }) => name))];
  const entries = names.map((name) => {
    const of = summaries.filter((summary) => summary.name === name);
    const rows = of.reduce((sum, summary) => sum + summary.rows, 0);
    const streams = of.map(({ stream, maxAbsLogit, meanEntropy, logitBound }) => [
      stream,
      {
        max_abs_logit: maxAbsLogit,
        mean_entropy_nats: meanEntropy,
        ...(logitBound > 0 && { logit_bound: logitBound }),
      },
    ]);
    return [
      name,
      {
        max_abs_logit: Math.max(...of.map(({ maxAbsLogit }) => maxAbsLogit)),
        mean_entropy_nats: of.reduce((sum, { meanEntropy, rows: n }) => sum + meanEntropy * n, 0) / rows,
        ...Object.fromEntries(streams),
      },
    ];
  });
  return Object.fromEntries(entries);
}

function workerObject({ rank, device, numbers }: WorkerReport): object {
  const { device_bytes, ...others } = numbers;
  return device === '' ? { rank, ...others } : { rank, ...others, device, device_bytes };
}
