/** Named values with their intervals, one below the other. */
import { ticks } from './chart.js';
import { COLOURS, GRID, INK, line, svg, text } from './drawing.js';

interface IntervalRow {
  label: string;
  value: number;
  /** Null where there is none. */
  interval: { low: number; high: number } | null;
  /** A value to compare with, drawn as a ring; null where there is none. */
  other: number | null;
}

const WIDTH = 640;
const ROW = 16;
const MARGIN = { left: 170, right: 20, top: 44, bottom: 40 };

/** The rows as SVG, the first at the top. */
export function intervalsSvg(title: string, xLabel: string, rows: readonly IntervalRow[]): string {
  const { left, right, top, bottom } = MARGIN;
  const height = top + ROW * rows.length + bottom;
  const values = rows.flatMap(({ value, interval, other }) => [
    value,
    ...(interval === null ? [] : [interval.low, interval.high]),
    ...(other === null ? [] : [other]),
  ]);
  const [low, high] = values.length === 0 ? [0, 1] : [Math.min(...values), Math.max(...values)];
  const width = Math.max(high - low, 1e-9);
  const at = (value: number) => left + ((value - low) / width) * (WIDTH - left - right);
  const floor = height - bottom;
  const parts = [text(WIDTH / 2, 22, title, 'text-anchor="middle" font-weight="bold"')];
  for (const mark of ticks(low, low + width)) {
    parts.push(line({ x: at(mark), y: top }, { x: at(mark), y: floor }, GRID));
    parts.push(text(at(mark), floor + 16, String(mark), 'text-anchor="middle"'));
  }
  parts.push(text((left + WIDTH - right) / 2, height - 8, xLabel, 'text-anchor="middle"'));
  for (const [i, { label, value, interval, other }] of rows.entries()) {
    const y = top + ROW * (i + 0.5);
    parts.push(text(left - 8, y + 4, label, 'text-anchor="end"'));
    if (interval !== null) {
      parts.push(line({ x: at(interval.low), y }, { x: at(interval.high), y }, COLOURS[0]!, 2));
    }
    const centre = (x: number) => `cx="${x.toFixed(1)}" cy="${y.toFixed(1)}"`;
    parts.push(`<circle ${centre(at(value))} r="3.5" fill="${COLOURS[0]}"/>`);
    if (other !== null) {
      parts.push(`<circle ${centre(at(other))} r="3.5" fill="none" stroke="${INK}" stroke-width="1.2"/>`);
    }
  }
  return svg(title, WIDTH, height, parts);
}
