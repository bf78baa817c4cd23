/**
 * SHA256SUMS in a foreign folder: hashes that `dataset verify --record` wrote, in the format of the command
 * sha256sum, which can also create and check them (`sha256sum --check SHA256SUMS`).
 */
import { existsSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { hashFile } from '../files/hash.js';
import { replaceFile, writeDurably } from '../files/io.js';
import { HUGGING_FACE_FILES } from './huggingface.js';
import type { DataSource } from './source.js';

export const SUMS_FILE = 'SHA256SUMS';

const LINE = /^([0-9a-f]{64}) [ *](.+)$/;

/**
 * The recorded SHA-256 by path, of data files and metadata; null if none are recorded.
 *
 * @throws OrchestratorError ERR_DATA_FORMAT, ERR_DATA_HASH.
 */
export function readSums(source: DataSource): Map<string, string> | null {
  const path = join(source.path, SUMS_FILE);
  if (source.manifest || !existsSync(path)) return null;
  const sums = new Map<string, string>();
  for (const [i, line] of readFileSync(path, 'utf8').trimEnd().split('\n').entries()) {
    const [, sha256, name] = LINE.exec(line) ?? [];
    if (
      sha256 === undefined ||
      name === undefined ||
      name.startsWith('/') ||
      name.split('/').includes('..')
    ) {
      throw new OrchestratorError(
        'ERR_DATA_FORMAT',
        `${path}:${i + 1}: expected a SHA-256, two spaces and the name of a file in the folder`,
      );
    }
    sums.set(join(source.path, name), sha256);
  }
  const missing = source.files.find((file) => !sums.has(file.path));
  if (missing === undefined) return sums;
  throw new OrchestratorError(
    'ERR_DATA_HASH',
    `${path} has no hash of ${missing.path}`,
    'If the folder was meant to change, remove that file and record the hashes again',
  );
}

/**
 * Records the hashes of a foreign folder's files. `progress` receives the number of bytes read.
 *
 * @throws OrchestratorError ERR_FILE_*.
 */
export async function writeSums(source: DataSource, progress: (bytes: number) => void): Promise<void> {
  const metadata = HUGGING_FACE_FILES.map((name) => join(source.path, name)).filter((path) =>
    existsSync(path),
  );
  let text = '';
  for (const path of [...metadata, ...source.files.map((file) => file.path)]) {
    const { sha256 } = await hashFile(path, progress);
    text += `${sha256}  ${relative(source.path, path)}\n`;
  }
  await replaceFile(join(source.path, SUMS_FILE), (temporary) => writeDurably(temporary, text));
}
