/** Steps and validations as lines of text. */
import { bytes, duration, eta, flopRate, quantity } from '../text/quantities.js';
import type { StepRecord, ValidationRecord, WorkerReport } from './record.js';

/** Largest attention logit of all blocks, or null when the step did not sample it. */
export function maxLogit(record: StepRecord): number | null {
  return record.attention === null
    ? null
    : Math.max(...record.attention.map(({ maxAbsLogit }) => maxAbsLogit));
}

/** GPU memory if the worker uses a GPU, otherwise its resident memory. */
export function memoryOf({ device, deviceBytes, rssBytes }: WorkerReport): number {
  return device === '' ? rssBytes : deviceBytes;
}

/**
 * One line for a step: "step 120/50000 | loss 0.4213 | norm 0.87 | lr 1.0e-4 | 312 ms | 820 img/s | 196 GF/s
 * | logit 9.3 | mem 1.2 GiB | eta 4h10m".
 */
export function stepLine(record: StepRecord): string {
  const logit = maxLogit(record);
  const memory = record.workers.reduce((sum, worker) => sum + memoryOf(worker), 0);
  const perSecond = record.samples / record.seconds;
  const fields = [
    `step ${record.step}/${record.steps}`,
    `loss ${quantity(record.loss)}`,
    `norm ${record.gradientNorm.toPrecision(2)}`,
    `lr ${record.learningRate.toExponential(1)}`,
    duration(record.seconds),
    `${perSecond >= 10 ? perSecond.toFixed(0) : perSecond.toFixed(1)} img/s`,
    flopRate(record.flops / record.seconds),
  ];
  if (logit !== null) fields.push(`logit ${logit.toFixed(1)}`);
  fields.push(`mem ${bytes(memory)}`);
  if (record.etaSeconds !== null) fields.push(`eta ${eta(record.etaSeconds)}`);
  return fields.join(' | ');
}

/** One line for each kind of weights: "validation at step 200 | ema 0.4312 | t=0.0625 0.91 | ..." */
export function validationLines({ step, results }: ValidationRecord): string[] {
  return results.map(({ weights, mean, bins }) => {
    const each = bins.map(({ name, loss }) => `${name} ${quantity(loss)}`).join(' | ');
    return `validation at step ${step} | ${weights} ${quantity(mean)} | ${each}`;
  });
}
