import { createHash } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { canonicalJson } from '../config/value.js';

/** SHA-256 of the canonical JSON, in hex: equal values give equal hashes in every process. */
export function canonicalHash(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}

const HASH_BYTES = 1 << 20;

/** SHA-256 of an array's bytes, in hex; lets the event loop turn after every megabyte. */
export async function hashArray(array: Float32Array): Promise<string> {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  const hash = createHash('sha256');
  for (let at = 0; at < bytes.length; at += HASH_BYTES) {
    hash.update(bytes.subarray(at, at + HASH_BYTES));
    await turn();
  }
  return hash.digest('hex');
}
