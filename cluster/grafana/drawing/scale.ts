/** Axes of charts: round ticks, and numbers as people read them. */
import { bytes, flopRate, timeSpan } from '../../../src/text/quantities.js';
import type { Unit } from '../board.js';

/** A mapping of values to places, and the values that are marked. */
export interface Scale {
  at: (value: number) => number;
  ticks: number[];
}

/** Multiples of 1, 2 or 5 times a power of ten, about `count` of them within [low, high]. */
function roundTicks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((multiple) => multiple * power >= rough) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

/** The range, widened where its ends hardly differ. */
export function widened([low, high]: readonly [number, number]): [number, number] {
  const size = Math.max(Math.abs(low), Math.abs(high));
  const margin = high - low > 0.005 * size ? 0 : 0.1 * size || 1;
  return [low === 0 ? 0 : low - margin, high + margin];
}

/**
 * A linear scale that maps values in [low, high] to pixels in [from, to].
 *
 * @param unit The ticks are round in multiples of it.
 */
export function linear(
  [low, high]: readonly [number, number],
  from: number,
  to: number,
  count: number,
  unit = 1,
): Scale {
  return {
    at: (value) => from + ((value - low) / (high - low)) * (to - from),
    ticks: roundTicks(low / unit, high / unit, count).map((tick) => tick * unit),
  };
}

/** The same of logarithms; values are positive. */
export function logarithmic([low, high]: readonly [number, number], from: number, to: number): Scale {
  const [a, b] = [Math.log10(low), Math.log10(Math.max(high, low * 1.01))];
  const decades = [1, 2, 5].flatMap((multiple) =>
    Array.from({ length: Math.ceil(b) - Math.floor(a) + 1 }, (_, i) => multiple * 10 ** (Math.floor(a) + i)),
  );
  const ticks = decades.filter((value) => value >= low && value <= high).sort((x, y) => x - y);
  return {
    at: (value) => from + ((Math.log10(value) - a) / (b - a)) * (to - from),
    // Within a decade, the ticks of a linear axis are closer.
    ticks: ticks.length >= 3 ? ticks : roundTicks(low, high, 4),
  };
}

/** The largest of KiB, MiB, GiB, ... that the values reach, in bytes; of other units 1. */
export function unitOf(values: readonly number[], unit: Unit): number {
  if (unit !== 'bytes' && unit !== 'binBps') return 1;
  return 1024 ** Math.floor(Math.log(Math.max(1, ...values)) / Math.log(1024));
}

/** "62 %", "1.2 GiB", "350 ms": a value in its unit. */
export function withUnit(value: number, unit: Unit): string {
  switch (unit) {
    case 'percentunit':
      return `${compact(100 * value)} %`;
    case 'bytes':
      return bytes(value);
    case 'binBps':
      return `${bytes(value)}/s`;
    case 'flops':
      return flopRate(value);
    case 's':
      if (value === 0) return '0 s';
      if (value < 1) return `${compact(1000 * value)} ms`;
      return value < 60 ? `${compact(value)} s` : timeSpan(value);
    default:
      return [compact(value), ...unit.split('suffix:').slice(1)].join(' ');
  }
}

/** At most three significant digits, without trailing zeros: "0.125", "7", "1.2e-5", "12,300". */
function compact(value: number): string {
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString('en-US');
  if (size !== 0 && size < 1e-3) return Number(value.toPrecision(2)).toExponential();
  return String(Number(value.toPrecision(3)));
}
