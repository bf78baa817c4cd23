/** Compares a data set's files with their recorded hashes. */
import { OrchestratorError } from '../errors.js';
import { hashFile } from '../files/hash.js';
import type { DataSource } from './source.js';

/**
 * Compares every file with its recorded SHA-256; returns false if none are recorded. ERR_DATA_HASH names the
 * file, and the place of the damage as far as the format tells. `progress` receives the number of bytes read.
 */
export async function verifyFiles(
  source: DataSource,
  progress: ((bytes: number) => void) | null,
): Promise<boolean> {
  const hashes = source.hashes();
  for (const { path, sha256: expected, recordedIn, damage, hint } of hashes ?? []) {
    const { sha256 } = await hashFile(path, progress);
    if (sha256 === expected) continue;
    throw new OrchestratorError(
      'ERR_DATA_HASH',
      `${path} is damaged${damage()}. Its SHA-256 is ${sha256}; ${recordedIn} says ${expected}.`,
      hint,
    );
  }
  return hashes !== null;
}
