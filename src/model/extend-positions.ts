/** Extends the position grid of a model that was trained on a smaller one. */
import { elementary } from '../native/elementary.js';

/**
 * Largest deviation at which a stored table still counts as sines and cosines: twice half of bf16's spacing
 * at 1.
 */
const TOLERANCE = 5e-3;

/** Evenly spaced coordinates: position p has first + step * p. */
interface Axis {
  first: number;
  step: number;
}

/**
 * Makes a grid of `to` x `to` from one of `from` x `from`, to >= from.
 *
 * If the table is the usual function of a coordinate, at any scale and origin, the old grid becomes the
 * centre of the new one, bit by bit, and the same coordinates continue around it: smaller latents use the
 * centre, so they see what they saw before (exactly so if to - from is even). Any other table is stretched
 * bilinearly.
 *
 * @param table [from * from * hidden], hidden a multiple of 4.
 * @returns [to * to * hidden], and which of the two was done.
 */
export function extendPositions(table: Float32Array, hidden: number, from: number, to: number) {
  const quarter = hidden / 4;
  const columns = axisOf(from, quarter, (p) => table.subarray(p * hidden, p * hidden + hidden / 2));
  const rows = axisOf(from, quarter, (p) =>
    table.subarray(p * from * hidden + hidden / 2, (p * from + 1) * hidden),
  );
  const expected = columns && rows && compute(hidden, from, columns, rows);
  if (!expected || !table.every((value, i) => Math.abs(value - expected[i]!) <= TOLERANCE)) {
    return { table: stretch(table, hidden, from, to), how: 'interpolated' };
  }
  const shift = Math.floor((to - from) / 2);
  const shifted = ({ first, step }: Axis) => ({ first: first - step * shift, step });
  const extended = compute(hidden, to, shifted(columns), shifted(rows));
  for (let row = 0; row < from; row++) {
    const line = table.subarray(row * from * hidden, (row + 1) * from * hidden);
    extended.set(line, ((row + shift) * to + shift) * hidden);
  }
  return { table: extended, how: 'computed' };
}

/**
 * The evenly spaced coordinates of an axis, or null. The slowest wave determines a coordinate without
 * ambiguity, and each faster one refines it.
 */
function axisOf(size: number, quarter: number, channels: (p: number) => Float32Array): Axis | null {
  const frequencies = Array.from({ length: quarter }, (_, j) => elementary().powerOf10000(-j / quarter));
  const coordinates: number[] = [];
  for (let p = 0; p < size; p++) {
    const values = channels(p);
    let x = 0;
    for (let j = quarter - 1; j >= 0; j--) {
      const omega = frequencies[j]!;
      const angle = elementary().atan2(values[j]!, values[quarter + j]!) - x * omega;
      x += (angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI))) / omega;
    }
    coordinates.push(x);
  }
  const first = coordinates[0]!;
  const step = size === 1 ? 1 : (coordinates[size - 1]! - first) / (size - 1);
  return Number.isFinite(first) && Number.isFinite(step) ? { first, step } : null;
}

function compute(hidden: number, size: number, columns: Axis, rows: Axis): Float32Array {
  const axis = ({ first, step }: Axis) =>
    elementary().encodePositions(
      Float64Array.from({ length: size }, (_, p) => first + step * p),
      hidden / 4,
    );
  return positionGrid(axis(columns), axis(rows), size, hidden);
}

function stretch(table: Float32Array, hidden: number, from: number, to: number): Float32Array {
  const out = new Float32Array(to * to * hidden);
  const place = (p: number) => {
    const x = Math.min(Math.max(((p + 0.5) * from) / to - 0.5, 0), from - 1);
    const low = Math.min(Math.floor(x), Math.max(from - 2, 0));
    return { low, high: Math.min(low + 1, from - 1), part: x - low };
  };
  for (let row = 0; row < to; row++) {
    const y = place(row);
    for (let column = 0; column < to; column++) {
      const x = place(column);
      const at = (row * to + column) * hidden;
      const corner = (r: number, c: number, channel: number) => table[(r * from + c) * hidden + channel]!;
      for (let channel = 0; channel < hidden; channel++) {
        const top = mix(corner(y.low, x.low, channel), corner(y.low, x.high, channel), x.part);
        const bottom = mix(corner(y.high, x.low, channel), corner(y.high, x.high, channel), x.part);
        out[at + channel] = mix(top, bottom, y.part);
      }
    }
  }
  return out;
}

/**
 * The position table from a code for every column and every row, each [size, hidden / 2].
 *
 * @returns [size * size * hidden], in the order of the grid's rows.
 */
export function positionGrid(
  columns: Float32Array,
  rows: Float32Array,
  size: number,
  hidden: number,
): Float32Array {
  const half = hidden / 2;
  const table = new Float32Array(size * size * hidden);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const at = (row * size + column) * hidden;
      table.set(columns.subarray(column * half, (column + 1) * half), at);
      table.set(rows.subarray(row * half, (row + 1) * half), at + half);
    }
  }
  return table;
}

function mix(a: number, b: number, part: number): number {
  return a + (b - a) * part;
}
