/** Canonical JSON and its SHA-256: equal values give equal bytes on every machine. */
import { createHash } from 'node:crypto';
import { OrchestratorError } from '../errors.js';

/**
 * JSON with sorted keys and without white space. Numbers as ECMAScript prints them (shortest that reads back the same
 * double). Refuses what JSON would silently change: undefined, non-finite numbers, functions, bigint.
 */
export function canonicalJson(value: unknown): string {
  return write(value, '$');
}

function write(value: unknown, path: string): string {
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number' && Number.isFinite(value)) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((item, i) => write(item, `${path}[${i}]`)).join(',')}]`;
  if (typeof value === 'object') {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${write(item, `${path}.${key}`)}`).join(',')}}`;
  }
  throw new OrchestratorError(
    'ERR_INTERNAL',
    `${path} is ${typeof value} ${String(value)}, which has no canonical JSON`,
  );
}

/** SHA-256 of the canonical JSON, in hex. */
export function canonicalHash(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}
