/** Numbers as people read them. */
import type { StepRecord, ValidationRecord, WorkerReport } from './record.js';

/** "312 ms", "4.2 s", "0.8 ms" */
export function duration(seconds: number): string {
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 10) return `${(seconds * 1000).toFixed(0)} ms`;
  return `${seconds.toFixed(1)} s`;
}

/** "4h10m", "3m05s", "12s", "2d03h" */
export function eta(seconds: number): string {
  const pad = (n: number) => String(n).padStart(2, '0');
  const s = Math.round(seconds);
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${pad(s % 60)}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h${pad(Math.floor((s % 3600) / 60))}m`;
  return `${Math.floor(s / 86_400)}d${pad(Math.floor((s % 86_400) / 3600))}h`;
}

/** "42 s", "2 min 31 s", "4 h 10 min", "2 d 3 h" */
export function timeSpan(seconds: number): string {
  const s = Math.max(1, Math.round(seconds));
  const two = (large: number, unit: string, small: number, part: string) =>
    small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${part}`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return two(Math.floor(s / 60), 'min', s % 60, 's');
  const minutes = Math.round(s / 60);
  if (minutes < 1440) return two(Math.floor(minutes / 60), 'h', minutes % 60, 'min');
  const hours = Math.round(s / 3600);
  return two(Math.floor(hours / 24), 'd', hours % 24, 'h');
}

/** "61.2 GiB" */
export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = count;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/** "196 GF/s" */
export function flopRate(perSecond: number): string {
  if (perSecond >= 1e14) return `${(perSecond / 1e12).toFixed(0)} TF/s`;
  if (perSecond >= 1e12) return `${(perSecond / 1e12).toFixed(1)} TF/s`;
  return `${(perSecond / 1e9).toFixed(perSecond >= 1e10 ? 0 : 1)} GF/s`;
}

/** Four significant digits without exponent where they fit, "0.4213", "12.31", "1.2e+5". */
export function quantity(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2);
  return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 4);
}

/** Largest attention logit of all blocks, or null where the step did not sample it. */
export function maxLogit(record: StepRecord): number | null {
  return record.attention === null
    ? null
    : Math.max(...record.attention.map(({ maxAbsLogit }) => maxAbsLogit));
}

/** Of the GPU where a worker computes on one, else of its process. */
export function memoryOf({ device, deviceBytes, rssBytes }: WorkerReport): number {
  return device === '' ? rssBytes : deviceBytes;
}

/** "step 120/50000 | loss 0.4213 | norm 0.87 | lr 1.0e-4 | 312 ms | 820 img/s | 196 GF/s | logit 9.3 | mem 1.2 GiB | eta 4h10m" */
export function stepLine(record: StepRecord): string {
  const logit = maxLogit(record);
  const held = record.workers.reduce((sum, worker) => sum + memoryOf(worker), 0);
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
  fields.push(`mem ${bytes(held)}`);
  if (record.etaSeconds !== null) fields.push(`eta ${eta(record.etaSeconds)}`);
  return fields.join(' | ');
}

/** "validation at step 200 | ema 0.4312 | t 0.0625 0.91 | ..." One line for each kind of weights. */
export function validationLines({ step, results }: ValidationRecord): string[] {
  return results.map(({ weights, mean, bins }) => {
    const each = bins.map(({ name, loss }) => `${name} ${quantity(loss)}`).join(' | ');
    return `validation at step ${step} | ${weights} ${quantity(mean)} | ${each}`;
  });
}
