/** Steps and validations as lines of text. */
import { bytes, counted, duration, eta, flopRate, quantity, rough, timeSpan } from '../text/quantities.js';
import { shellText } from '../text/shell.js';
import type { StepRecord, ValidationRecord, ValidationSummary, WorkerReport } from './record.js';
import { maxLogit, type RunProgress } from './run-progress.js';

/** GPU memory if the worker uses a GPU, otherwise its resident memory. */
export function memoryOf({ device, numbers }: WorkerReport): number {
  return device === '' ? numbers.rss_bytes : numbers.device_bytes;
}

/** "820 img/s" */
export function imageRate(perSecond: number): string {
  return `${rough(perSecond)} img/s`;
}

/** "eta 4h10m", or "eta ~4h10m" where it may be wrong by more than a tenth. */
export function etaText(seconds: number, isRough: boolean): string {
  return `eta ${isRough ? '~' : ''}${eta(seconds)}`;
}

/** A step's "loss 0.4213", "grad norm 0.87", "lr 1.0e-4", "312 ms", "820 img/s", "196 GF/s", "logit 9.3". */
function stepNumbers(record: StepRecord): [loss: string, ...others: string[]] {
  return [
    `loss ${quantity(record.loss)}`,
    `grad norm ${rough(record.gradientNorm)}`,
    `lr ${record.learningRate.toExponential(1)}`,
    duration(record.seconds),
    imageRate(record.samples / record.seconds),
    flopRate(record.flops / record.seconds),
    ...(record.attention.length > 0 ? [`logit ${maxLogit(record.attention).toFixed(1)}`] : []),
  ];
}

/** One line for a step: "step 120/50000 | loss 0.4213 | ... | mem 1.2 GiB | eta 4h10m". */
export function stepLine(record: StepRecord): string {
  const memory = record.workers.reduce((sum, worker) => sum + memoryOf(worker), 0);
  const fields = [`step ${record.step}/${record.steps}`, ...stepNumbers(record), `mem ${bytes(memory)}`];
  if (record.eta !== null) fields.push(etaText(record.eta.seconds, record.eta.isRough));
  return fields.join(' | ');
}

/** "validation at step 200 | ema 0.4312 | master 0.4420 | 15.7 s" */
export function validationLine({ step, seconds, results }: ValidationRecord): string {
  const losses = results.map(({ weights, mean }) => `${weights} ${quantity(mean)}`);
  return [`validation at step ${step}`, ...losses, duration(seconds)].join(' | ');
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

/** What a process of a run has done, at its end; nothing if it made no step. */
export function summaryLines(progress: RunProgress): string[] {
  const { steps, samples, seconds } = progress.totals;
  if (steps === 0) return [];
  const view = progress.view();
  const before = view.elapsed_seconds > seconds;
  const { best, weights } = { best: null, weights: '', ...view.validation };
  const facts = [
    `summary | ${counted(steps, 'step')} in ${timeSpan(seconds)}${before ? ` of ${timeSpan(view.elapsed_seconds)} in all` : ''}`,
    `${imageRate(samples / seconds)} on average`,
    `loss of the last step ${quantity(view.loss!)}`,
    ...(best === null ? [] : [`best validation ${quantity(best.loss)} (${weights}) at step ${best.step}`]),
  ];
  const { checkpoint } = view;
  return [
    facts.join(' | '),
    ...(checkpoint === null ? [] : [`checkpoint of step ${checkpoint.step}: ${checkpoint.path}`]),
    ...(view.phase === 'DONE' ? [nextLine(view.run_dir)] : []),
  ];
}

/**
 * "next: orchestrator sample ...", by which one sees what was trained.
 *
 * @param from The folder of a run or of a checkpoint.
 */
export function nextLine(from: string): string {
  const command = ['orchestrator', 'sample', '--checkpoint', from, '--rows', '0-7', '--out', 'preview.png'];
  return `next: ${shellText(command)}`;
}
