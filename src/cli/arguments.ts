/** Parsers for arguments of the command line. */
import { isIP } from 'node:net';
import { InvalidArgumentError } from 'commander';
import { hostInAddress, splitAddress } from '../rpc/address.js';
import { MOST_WORKERS } from '../rpc/protocol.js';

/**
 * The number of a text with a unit. The pattern's groups are the digits, and the unit that starts with one of
 * K, M, G, T and P, each `kilo` times the one before. NaN without a match.
 */
function scaled(text: string, pattern: RegExp, kilo: (unit: string) => 1000 | 1024): number {
  const [, digits, unit = ''] = pattern.exec(text.trim()) ?? [];
  let value = Number(digits);
  for (let power = ' KMGTP'.indexOf(unit.charAt(0).toUpperCase()); power > 0; power--) value *= kilo(unit);
  return value;
}

/** A size with binary units, as in Slurm and Kubernetes: "24GiB", "24Gi" and "24G" are the same. */
export function memorySize(text: string): number {
  const value = scaled(text, /^(\d+(?:\.\d+)?)\s*([MGT])i?B?$/i, () => 1024);
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('Expected a size in MiB, GiB or TiB, such as 24GiB.');
}

/** A positive number with a decimal prefix, such as "400G", "0.8P" or "4e11"; FLOP/s or B/s may follow. */
export function rate(text: string): number {
  const value = scaled(text, /^(\d+(?:\.\d+)?(?:e\d+)?)\s*([KMGTP]?)(?:FLOPS?|B|F)?(?:\/s)?$/i, () => 1000);
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('Expected a positive number with K, M, G, T or P, such as 400G.');
}

/** A size in bytes: "10GB", "500MB", "2GiB"; null for "0", no limit. */
export function shardSize(text: string): number | null {
  const value = scaled(text, /^(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?$/i, (unit) =>
    /i$/i.test(unit) ? 1024 : 1000,
  );
  if (Number.isFinite(value)) return value === 0 ? null : value;
  throw new InvalidArgumentError('Expected a size such as 10GB, 500MB or 2GiB; 0 = one file.');
}

/** A file of targets; Prometheus refuses to read others than these. */
export function targetsFile(text: string): string {
  if (/\.(json|yml|yaml)$/.test(text)) return text;
  throw new InvalidArgumentError('Prometheus reads only files whose names end in .json, .yml or .yaml.');
}

function wholeNumbers(from: number, to: number, range = `from ${from} to ${to}`): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= from && value <= to) return value;
    throw new InvalidArgumentError(`Expected a whole number ${range}.`);
  };
}

export const positiveInteger = wholeNumbers(1, 999_999_999, 'from 1');
export const wholeNumber = wholeNumbers(0, Number.MAX_SAFE_INTEGER, 'from 0 to 2^53 - 1');
export const workerCount = wholeNumbers(1, MOST_WORKERS);
export const portNumber = wholeNumbers(0, 65_535);

/** An address to listen on. */
export function listenAddress(text: string): string {
  try {
    splitAddress(text);
    return text;
  } catch {
    throw new InvalidArgumentError('Expected HOST:PORT, such as 10.0.0.1:29500; port 0 takes any free one.');
  }
}

/** A host without a port; an IPv6 address may be in brackets. */
export function advertisedHost(text: string): string {
  const host = text.replace(/^\[|\]$/g, '');
  const refuse = (why: string) =>
    new InvalidArgumentError(`${why} Expected a host name or address, such as 10.0.0.1.`);
  if (/^(0\.0\.0\.0|[0:]+)$/.test(host)) throw refuse('Nobody can connect to this address.');
  if (isIP(host) || /^[\w-]+(\.[\w-]+)*$/.test(host)) return hostInAddress(host);
  throw refuse('This is no host.');
}

/** Nodes of a run, as torchrun writes them: "4", or "1:4", of which 4 are started and 1 is enough to go on. */
export interface NodeRange {
  /** null: not given. */
  min: number | null;
  max: number;
}

export function nodeRange(text: string): NodeRange {
  const [first = '', second, ...more] = text.split(':');
  const [min, max] = [workerCount(first), workerCount(second ?? first)];
  if (more.length === 0 && min <= max) return { min: second === undefined ? null : min, max };
  throw new InvalidArgumentError(
    'Expected a number of nodes, such as 4, or the fewest and the most, such as 1:4.',
  );
}
export const repeatCount = wholeNumbers(1, 10_000);

/** Seconds of a time such as "90m", "2h", "1h30m", "45s" or "0.5". */
export function timeLimit(text: string): number {
  const [, hours, minutes, seconds] =
    /^(?:(\d{1,6}(?:\.\d+)?)h)?(?:(\d{1,6})m)?(?:(\d{1,9}(?:\.\d+)?)s?)?$/.exec(text) ?? [];
  const value = 3600 * Number(hours ?? 0) + 60 * Number(minutes ?? 0) + Number(seconds ?? 0);
  if (value > 0) return value;
  throw new InvalidArgumentError('Expected a time such as 90m, 2h, 1h30m or 45s.');
}

export function parseSeed(text: string): bigint {
  if (/^\d{1,20}$/.test(text) && BigInt(text) < 1n << 64n) return BigInt(text);
  throw new InvalidArgumentError('Expected a whole number from 0 to 2^64 - 1.');
}

const PICTURE = /\.(png|jpe?g|webp)$/i;
const VECTORS = /\.svg$/i;

/** The name of a picture; its ending says the format. */
export function picturePath(text: string): string {
  if (PICTURE.test(text)) return text;
  throw new InvalidArgumentError('Expected a name that ends in .png, .jpg, .jpeg or .webp.');
}

/** The name of a chart; its ending says the format. */
export function chartPath(text: string): string {
  if (PICTURE.test(text) || VECTORS.test(text)) return text;
  throw new InvalidArgumentError('Expected a name that ends in .svg, .png, .jpg, .jpeg or .webp.');
}

/** Times in [0, 1], separated by commas. */
export function times(text: string): number[] {
  const values = text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  if (values.every((t) => t >= 0 && t <= 1)) return values;
  throw new InvalidArgumentError('Expected numbers from 0 to 1, separated by commas, such as 0.1,0.5.');
}

/** The name of a picture, or of a file of latents. */
export function samplesPath(text: string): string {
  if (PICTURE.test(text) || isLatentsPath(text)) return text;
  throw new InvalidArgumentError('Expected a name that ends in .png, .jpg, .jpeg, .webp or .safetensors.');
}

/** Whether a name that `samplesPath` accepts is one of a file of latents. */
export function isLatentsPath(path: string): boolean {
  return /\.safetensors$/i.test(path);
}

/** Row numbers and ranges: "0,1,2" or "0-2,7". */
export function rowNumbers(text: string): number[] {
  const rows = text.split(',').flatMap((part) => {
    const [, first, last = first] = /^\s*(\d{1,15})(?:-(\d{1,15}))?\s*$/.exec(part) ?? [];
    const count = Number(last) - Number(first) + 1;
    if (!(count >= 1 && count <= MOST_ROWS)) return [Number.NaN];
    return Array.from({ length: count }, (_, i) => Number(first) + i);
  });
  if (rows.length <= MOST_ROWS && rows.every(Number.isSafeInteger)) return rows;
  throw new InvalidArgumentError(`Expected at most ${MOST_ROWS} row numbers, such as 0,1,2 or 0-7.`);
}

const MOST_ROWS = 10_000;

/** [height, width] of "64x96". */
export function latentSides(text: string): [number, number] {
  const [, height, width] = /^(\d{1,5})x(\d{1,5})$/.exec(text) ?? [];
  if (Number(height) > 0 && Number(width) > 0) return [Number(height), Number(width)];
  throw new InvalidArgumentError('Expected height and width of the latents, such as 64x64.');
}

export function finite(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value)) return value;
  throw new InvalidArgumentError('Expected a number.');
}

export function positive(text: string): number {
  const value = finite(text);
  if (value > 0) return value;
  throw new InvalidArgumentError('Expected a number above 0.');
}
