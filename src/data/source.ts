/** A folder of Arrow files: which files, in which order, and what its metadata states about their columns. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { type ArrowFile, readArrow } from '../formats/arrow/file.js';
import { HUGGING_FACE_FILE, readHuggingFace } from './huggingface.js';
import { MANIFEST_FILE, type Manifest, readManifest } from './manifest.js';

/** The metadata of a data set's folder. */
export interface DataSource {
  /** Path of the folder, as given. */
  path: string;
  format: 'orchestrator' | 'huggingface';
  files: ArrowFile[];
  rows: number;
  /** Shapes of rows that the folder's metadata states, by column. */
  shapes: Map<string, number[]>;
  /** Null for foreign folders. */
  manifest: Manifest | null;
}

/**
 * Reads the metadata of a data set's folder, without checking the contents.
 *
 * @throws OrchestratorError ERR_FILE_*, ERR_DATA_FORMAT, ERR_DATA_EMPTY.
 */
export function openSource(path: string): DataSource {
  if (!existsSync(path)) throw new OrchestratorError('ERR_FILE_OPEN', `There is no data set at ${path}`);
  let source: DataSource;
  if (existsSync(join(path, MANIFEST_FILE))) {
    source = fromManifest(path, readManifest(path));
  } else if (existsSync(join(path, HUGGING_FACE_FILE))) {
    const { files, shapes } = readHuggingFace(path);
    source = fromFiles(path, 'huggingface', files.map(readArrow), shapes, null);
  } else {
    const isSplits = existsSync(join(path, 'dataset_dict.json'));
    throw new OrchestratorError(
      'ERR_DATA_FORMAT',
      `${path} is not a data set: it has neither ${MANIFEST_FILE} nor ${HUGGING_FACE_FILE}`,
      isSplits
        ? 'It holds several splits; give the folder of one of them, such as "train"'
        : 'Expected a folder that `orchestrator dataset` or Hugging Face save_to_disk wrote',
    );
  }
  if (source.rows === 0) throw new OrchestratorError('ERR_DATA_EMPTY', `The data set ${path} has no rows`);
  return source;
}

function fromManifest(path: string, manifest: Manifest): DataSource {
  const files = manifest.shards.map((shard) => {
    const file = join(path, shard.file);
    const actual = statSync(file, { throwIfNoEntry: false })?.size;
    if (actual === undefined) {
      throw new OrchestratorError(
        'ERR_FILE_OPEN',
        `${file} is missing; ${join(path, MANIFEST_FILE)} lists it`,
      );
    }
    if (actual !== shard.bytes) {
      const what = actual < shard.bytes ? 'is truncated' : 'has changed';
      throw new OrchestratorError(
        actual < shard.bytes ? 'ERR_FILE_TRUNCATED' : 'ERR_DATA_HASH',
        `${file} ${what}: it has ${actual} bytes; the manifest says ${shard.bytes}`,
      );
    }
    const arrow = readArrow(file);
    if (arrow.rows !== shard.rows) {
      throw new OrchestratorError(
        'ERR_DATA_HASH',
        `${file} has ${arrow.rows} rows; the manifest says ${shard.rows}`,
      );
    }
    return arrow;
  });
  const shapes = new Map(manifest.columns.map((column) => [column.name, column.shape]));
  return fromFiles(path, 'orchestrator', files, shapes, manifest);
}

function fromFiles(
  path: string,
  format: DataSource['format'],
  files: ArrowFile[],
  shapes: Map<string, number[]>,
  manifest: Manifest | null,
): DataSource {
  const rows = files.reduce((sum, file) => sum + file.rows, 0);
  return { path, format, files, rows, shapes, manifest };
}
