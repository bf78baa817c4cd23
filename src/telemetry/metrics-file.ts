/**
 * metrics.jsonl: one object per step, validation, checkpoint and missed checkpoint. Names are snake_case, with
 * the unit. `metrics-schema.ts` describes them.
 */
import type { Mapping } from '../files/json.js';
import type { JsonlFile } from '../files/jsonl.js';
import { STEP_NUMBERS } from './metrics.js';
import type { AttentionSummary, Sink, StepRecord, ValidationRecord, WorkerReport } from './record.js';
import { maxLogit } from './run-progress.js';

/** @param open gives the file when the first step is about to begin. */
export function metricsFile(open: () => JsonlFile): Sink {
  let file: JsonlFile | null = null;
  const append = (line: object) => file?.append({ ...line, unix_seconds: Date.now() / 1000 });
  return {
    begin: () => {
      file = open();
    },
    step: (record) => append(stepObject(record)),
    validation: (record) => append(validationObject(record)),
    checkpoint: ({ step, path, seconds, stallSeconds, bytes }) =>
      append({ type: 'checkpoint', step, path, seconds, stall_seconds: stallSeconds, bytes }),
    missedCheckpoint: ({ step, reason, fault: { code, message } }) =>
      append({ type: 'missed_checkpoint', step, reason, code, message }),
  };
}

export function stepObject(record: StepRecord): Mapping {
  const numbers = Object.entries(STEP_NUMBERS).map(([key, [, value]]) => [key, value(record)]);
  return {
    type: 'step',
    ...Object.fromEntries(numbers),
    ...(record.attention.length > 0 && { max_abs_logit: maxLogit(record.attention) }),
    ...(record.attentionLogged && {
      ...(record.attention.length > 0 && { attention: attentionObject(record.attention) }),
      ...(Object.keys(record.gradientNorms).length > 0 && { gradient_norms: record.gradientNorms }),
    }),
    ...(record.logged && { workers: record.workers.map(workerObject) }),
  };
}

/** Flat, so that every number is a column: "val_ema", "val_ema_t_0.0625", "val_ema_log_snr_-5.25". */
export function validationObject({ step, seconds, results, emaDistance }: ValidationRecord): Mapping {
  const numbers = results.flatMap(({ weights, mean, bins, epsilon }) => [
    [`val_${weights}`, mean],
    ...[...bins, ...epsilon].map(({ name, loss }) => [`val_${weights}_${name.replace('=', '_')}`, loss]),
  ]);
  const distance = emaDistance === null ? {} : { ema_distance: emaDistance };
  return { type: 'validation', step, seconds, ...Object.fromEntries(numbers), ...distance };
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
