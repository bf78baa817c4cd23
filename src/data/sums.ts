/**
 * SHA256SUMS in a foreign folder: hashes that `dataset verify --record` wrote, in the format of the command
 * sha256sum, which can also create and check them (`sha256sum --check SHA256SUMS`).
 */
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { hashFile } from '../files/hash.js';
import { replaceFile, writeDurably } from '../files/io.js';
import { FileReader } from '../files/reader.js';
import { shellText } from '../text/shell.js';
import type { DataSource, RecordedHash } from './source.js';

export const SUMS_FILE = 'SHA256SUMS';

const LINE = /^([0-9a-f]{64}) [ *](.+)$/;

/** The hashes of data files and metadata; null if none are recorded. */
export function readSums({ path: dir, files }: Pick<DataSource, 'path' | 'files'>): RecordedHash[] | null {
  const path = join(dir, SUMS_FILE);
  if (!existsSync(path)) return null;
  const again = shellText(['orchestrator', 'dataset', 'verify', dir, '--record']);
  const hint = `Restore the file, or, if you changed it on purpose, delete ${path} and run ${again}`;
  const text = FileReader.using(path, (reader) => reader.read(0, reader.bytes, 'its lines').toString('utf8'));
  const sums = text
    .trimEnd()
    .split('\n')
    .map((line, i): RecordedHash => {
      const [, sha256, name] = LINE.exec(line) ?? [];
      if (!sha256 || !name || name.startsWith('/') || name.split('/').includes('..')) {
        throw new OrchestratorError(
          'ERR_DATA_FORMAT',
          `${path}:${i + 1}: expected a SHA-256, two spaces and the name of a file in the folder`,
        );
      }
      return { path: join(dir, name), sha256, recordedIn: SUMS_FILE, damage: () => ' or changed', hint };
    });
  const recorded = new Set(sums.map((sum) => sum.path));
  const missing = files.find((file) => !recorded.has(file.path));
  if (missing === undefined) return sums;
  throw new OrchestratorError(
    'ERR_DATA_HASH',
    `${path} has no hash of ${missing.path}`,
    'If the folder was meant to change, remove that file and record the hashes again',
  );
}

/** Records the hashes of a foreign folder's files. `progress` receives the number of bytes read. */
export async function writeSums(source: DataSource, progress: (bytes: number) => void): Promise<void> {
  let text = '';
  for (const path of [...source.metadata, ...source.files.map((file) => file.path)]) {
    const { sha256 } = await hashFile(path, progress);
    text += `${sha256}  ${relative(source.path, path)}\n`;
  }
  await replaceFile(join(source.path, SUMS_FILE), (temporary) => writeDurably(temporary, text));
}
