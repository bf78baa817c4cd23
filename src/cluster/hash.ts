import { createHash } from 'node:crypto';
import { canonicalJson } from '../config/value.js';

/** SHA-256 of the canonical JSON, in hex: equal values give equal hashes in every process. */
export function canonicalHash(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}
