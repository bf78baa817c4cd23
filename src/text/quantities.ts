/** Numbers formatted for people. */

/** "87 us", "0.8 ms", "312 ms", "2.8 s", "42.3 s", "4h10m": how long something took, from operations to runs. */
export function duration(seconds: number): string {
  // The limits are those at which the rounded number would be one of the next unit.
  if (seconds < 99.5e-6) return `${(seconds * 1e6).toFixed(0)} us`;
  if (seconds < 9.95e-3) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 0.9995) return `${(seconds * 1e3).toFixed(0)} ms`;
  return seconds < 99.95 ? `${seconds.toFixed(1)} s` : eta(seconds);
}

/** "4h10m", "3m05s", "12s", "2d03h", "1.4 years" */
export function eta(seconds: number): string {
  const pad = (n: number) => String(n).padStart(2, '0');
  const s = Math.round(seconds);
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${pad(s % 60)}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h${pad(Math.floor((s % 3600) / 60))}m`;
  if (s >= YEAR) return years(s);
  return `${Math.floor(s / 86_400)}d${pad(Math.floor((s % 86_400) / 3600))}h`;
}

/** "42 s", "2 min 31 s", "4 h 10 min", "2 d 3 h", "1.4 years" */
export function timeSpan(seconds: number): string {
  const s = Math.max(1, Math.round(seconds));
  if (s >= YEAR) return years(s);
  const two = (large: number, unit: string, small: number, part: string) =>
    small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${part}`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return two(Math.floor(s / 60), 'min', s % 60, 's');
  const minutes = Math.round(s / 60);
  if (minutes < 1440) return two(Math.floor(minutes / 60), 'h', minutes % 60, 'min');
  const hours = Math.round(s / 3600);
  return two(Math.floor(hours / 24), 'd', hours % 24, 'h');
}

const YEAR = 365.25 * 86_400;

/** "1.4 years", "1,099 years" */
function years(seconds: number): string {
  const count = seconds / YEAR;
  const digits = count < 10 ? 1 : 0;
  return `${count.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })} years`;
}

/** "1 worker", "3 workers" */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** "step 6", "steps 6 to 8" */
export function stepsText(first: number, last: number): string {
  return first === last ? `step ${first}` : `steps ${first} to ${last}`;
}

const BINARY = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** "61.2 GiB": the size of memory or of files. */
export function bytes(count: number): string {
  const { value, unit } = inUnits(count, 1024, BINARY);
  return `${value.toFixed(unit === 'B' || value >= 100 ? 0 : 1)} ${unit}`;
}

/** "8.3 of 61.2 GiB", both in the unit of the whole */
export function bytesOfWhole(done: number, whole: number): string {
  const { value, unit } = inUnits(whole, 1024, BINARY);
  const digits = unit === 'B' || value >= 100 ? 0 : 1;
  return `${((done * value) / Math.max(1, whole)).toFixed(digits)} of ${value.toFixed(digits)} ${unit}`;
}

/** "196 GF/s" */
export function flopRate(perSecond: number): string {
  if (perSecond >= 1e14) return `${(perSecond / 1e12).toFixed(0)} TF/s`;
  if (perSecond >= 1e12) return `${(perSecond / 1e12).toFixed(1)} TF/s`;
  return `${(perSecond / 1e9).toFixed(perSecond >= 1e10 ? 0 : 1)} GF/s`;
}

/** About four significant digits, without an exponent where they fit: "0.4213", "12.31", "1.2e+5". */
export function quantity(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2);
  return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 4);
}

/** "820", "9.3", "0.021": two digits of a number that changes with every step, all of those before the point. */
export function rough(value: number): string {
  return value >= 10 ? value.toFixed(0) : value.toPrecision(2);
}

/** "52.3 TFLOP" */
export function flopCount(flops: number): string {
  return decimal(flops, 'FLOP');
}

/** "52.3 GB", in decimal units: bytes that are moved, which are compared with bandwidths. */
export function byteCount(bytes: number): string {
  return decimal(bytes, 'B');
}

function decimal(count: number, of: string): string {
  const { value, unit } = inUnits(count, 1000, ['', 'K', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y']);
  return `${value >= 100 ? value.toFixed(0) : value.toPrecision(3)} ${unit}${of}`;
}

/** A number in the largest of the units that it reaches, each `kilo` times the one before. */
function inUnits(count: number, kilo: number, units: readonly string[]) {
  let value = count;
  let i = 0;
  for (; value >= kilo && i < units.length - 1; i++) value /= kilo;
  return { value, unit: units[i] };
}
