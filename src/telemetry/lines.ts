/** Steps and validations as lines of text. */
import { bytes, duration, eta, flopRate, quantity } from '../text/quantities.js';
import type { StepRecord, ValidationRecord, ValidationSummary, WorkerReport } from './record.js';

/** GPU memory if the worker uses a GPU, otherwise its resident memory. */
export function memoryOf({ device, numbers }: WorkerReport): number {
  return device === '' ? numbers.rss_bytes : numbers.device_bytes;
}

/** A step's "loss 0.4213", "norm 0.87", "lr 1.0e-4", "312 ms", "820 img/s", "196 GF/s", "logit 9.3". */
export function stepNumbers(record: StepRecord): [loss: string, ...others: string[]] {
  const perSecond = record.samples / record.seconds;
  const logits = record.attention.map(({ maxAbsLogit }) => maxAbsLogit);
  return [
    `loss ${quantity(record.loss)}`,
    `norm ${record.gradientNorm.toPrecision(2)}`,
    `lr ${record.learningRate.toExponential(1)}`,
    duration(record.seconds),
    `${perSecond >= 10 ? perSecond.toFixed(0) : perSecond.toFixed(1)} img/s`,
    flopRate(record.flops / record.seconds),
    ...(logits.length > 0 ? [`logit ${Math.max(...logits).toFixed(1)}`] : []),
  ];
}

/** One line for a step: "step 120/50000 | loss 0.4213 | ... | mem 1.2 GiB | eta 4h10m". */
export function stepLine(record: StepRecord): string {
  const memory = record.workers.reduce((sum, worker) => sum + memoryOf(worker), 0);
  const fields = [`step ${record.step}/${record.steps}`, ...stepNumbers(record), `mem ${bytes(memory)}`];
  if (record.etaSeconds !== null) fields.push(`eta ${eta(record.etaSeconds)}`);
  return fields.join(' | ');
}

/**
 * For each kind of weights "validation at step 200 | ema 0.4312 | t=0.0625 0.91 | ...", the last with the time
 * of the whole validation: " | 15.7 s"; then for each "noise error at step 200 | ema | log_snr=-5.25 0.12 |
 * ...".
 */
export function validationLines({ step, seconds, results }: ValidationRecord): string[] {
  const each = (losses: ValidationSummary['bins']) =>
    losses.map(({ name, loss }) => `${name} ${quantity(loss)}`);
  const losses = results.map(({ weights, mean, bins }, i) => {
    const time = i === results.length - 1 ? [duration(seconds)] : [];
    return [`validation at step ${step}`, `${weights} ${quantity(mean)}`, ...each(bins), ...time];
  });
  const errors = results.map(({ weights, epsilon }) => [
    `noise error at step ${step}`,
    weights,
    ...each(epsilon),
  ]);
  return [...losses, ...errors].map((line) => line.join(' | '));
}
