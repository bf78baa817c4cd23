/** Reads the project's own format: Arrow files ("shards") that a manifest describes. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { TEXT_COLUMNS } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { type ArrowFile, readArrow } from '../formats/arrow/file.js';
import { arrowRows } from './arrow-rows.js';
import { placeOfDamage } from './damage.js';
import { needColumns } from './foreign.js';
import { type CaptionKind, isManifest, MANIFEST_FILE, readManifest, type Shard } from './manifest.js';
import type { CaptionColumns, Columns, DataFormat } from './source.js';

export const shards: DataFormat = {
  name: 'orchestrator',
  title: 'orchestrator',
  marker: MANIFEST_FILE,
  recognises: isManifest,
  open(path) {
    const manifest = readManifest(path);
    const { columns, encoders } = manifest;
    const files = manifest.shards.map((shard) => ({ ...shard, path: join(path, shard.file) }));
    return {
      path,
      format: shards,
      ...arrowRows(files.map((shard) => readShard(path, shard))),
      // The bytes of an array state their own shape.
      shapes: new Map(columns.flatMap(({ name, type, shape }) => (type === 'bytes' ? [] : [[name, shape]]))),
      encoders: encoders && {
        clip_l: encoders.clip_l.name,
        clip_g: encoders.clip_g.name,
        t5: encoders.t5.name,
      },
      roles(configured, place = '') {
        const names = columns.map(({ name }) => name);
        if (encoders === null) return configured ?? needColumns(path, names);
        if (!configured) return rolesOf(new Set(names));
        throw new OrchestratorError(
          'ERR_CONFIG',
          `data.columns${place}: expected null, because the manifest of ${path} names the columns`,
          'Remove data.columns; it is for data sets of other programs',
        );
      },
      firstIdentity: async () => ({ columns, content: files.map(({ rows, sha256 }) => ({ rows, sha256 })) }),
      hashes() {
        let firstRow = 0;
        return files.map((shard) => {
          const first = firstRow;
          firstRow += shard.rows;
          const damage = () => `: ${placeOfDamage(shard, columns, first)}`;
          const hint = 'Restore the file, or create the data set again';
          return { path: shard.path, sha256: shard.sha256, recordedIn: 'the manifest', damage, hint };
        });
      },
      metadata: [],
    };
  },
};

/** Reads a shard's metadata, and compares its size and rows with the manifest. */
function readShard(dir: string, { path, bytes, rows }: Shard & { path: string }): ArrowFile {
  const actual = statSync(path, { throwIfNoEntry: false })?.size;
  if (actual === undefined) {
    throw new OrchestratorError('ERR_FILE_OPEN', `${path} is missing; ${join(dir, MANIFEST_FILE)} lists it`);
  }
  if (actual !== bytes) {
    throw new OrchestratorError(
      actual < bytes ? 'ERR_FILE_TRUNCATED' : 'ERR_DATA_HASH',
      `${path} ${actual < bytes ? 'is truncated' : 'has changed'}: it has ${actual} bytes; the manifest says ${bytes}`,
    );
  }
  const file = readArrow(path);
  if (file.rows === rows) return file;
  throw new OrchestratorError('ERR_DATA_HASH', `${path} has ${file.rows} rows; the manifest says ${rows}`);
}

/** The columns have the names of their roles; synthetic captions are optional. */
function rolesOf(names: ReadonlySet<string>): Columns {
  const columnsOf = (kind: CaptionKind) =>
    ({
      ...Object.fromEntries(TEXT_COLUMNS.map((column) => [column, `${kind}.${column}`])),
      ...{ context: null, pooled: null },
    }) as CaptionColumns;
  const hasSynthetic = TEXT_COLUMNS.some((column) => names.has(`synthetic.${column}`));
  return {
    id: names.has('id') ? 'id' : null,
    latent: 'latent',
    latent_logvar: null,
    original: columnsOf('original'),
    synthetic: hasSynthetic ? columnsOf('synthetic') : null,
  };
}
