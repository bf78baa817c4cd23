/**
 * Reads folders that Hugging Face `datasets` wrote with `save_to_disk`: state.json, dataset_info.json and
 * Arrow streams.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { OrchestratorError } from '../errors.js';
import { readJson } from '../files/json.js';
import { type ArrowFile, readArrow } from '../formats/arrow/file.js';
import { integersOf } from '../formats/arrow/labels.js';
import { arrowRows } from './arrow-rows.js';
import { foreignSource } from './foreign.js';
import { dimension } from './manifest.js';
import type { DataFormat } from './source.js';

const STATE_FILE = 'state.json';
const INFO_FILE = 'dataset_info.json';

const fileName = z
  .string()
  .min(1)
  .refine(
    (name) => !/^\/|\0/.test(name) && !name.split('/').includes('..'),
    'expected a file name inside the folder',
  );
const stateSchema = z.object({
  _data_files: z
    .array(z.object({ filename: fileName }))
    .max(1_000_000)
    .refine((files) => new Set(files.map((f) => f.filename)).size === files.length, 'a file is listed twice'),
  /** Rows that `datasets` before version 2 selected or shuffled without rewriting them. */
  _indices_data_files: z
    .array(z.object({ filename: fileName }))
    .max(1_000_000)
    .nullish(),
});

const infoSchema = z.object({
  features: z.record(z.string(), z.unknown()).nullable().default(null),
  /** The text encoders, which scripts/encode.py adds. Saved again by `datasets`, the set has the key no more. */
  encoders: z
    .object({ clip_l: z.string(), clip_g: z.string(), t5: z.string() })
    .nullable()
    .default(null)
    .catch(null),
});
const arraySchema = z.object({
  _type: z.enum(['Array2D', 'Array3D', 'Array4D', 'Array5D']),
  shape: z.array(dimension).min(2).max(5),
});
const listSchema = z.object({
  _type: z.enum(['List', 'LargeList', 'Sequence']),
  length: dimension,
  feature: z.object({ _type: z.literal('Value') }),
});

export const huggingFace: DataFormat = {
  name: 'huggingface',
  title: 'Hugging Face',
  marker: STATE_FILE,
  open(path) {
    const { _data_files, _indices_data_files } = readJson(join(path, STATE_FILE), stateSchema);
    const open = ({ filename }: { filename: string }) => readArrow(join(path, filename));
    const files = _data_files.map(open);
    const indices = _indices_data_files?.length ? _indices_data_files.map(open) : null;
    const infoPath = join(path, INFO_FILE);
    // The file is optional; without it, the shapes are those of the columns themselves.
    const info = existsSync(infoPath) ? readJson(infoPath, infoSchema) : null;
    return foreignSource({
      path,
      format: huggingFace,
      ...arrowRows(files, indices && selectedRows(indices, files)),
      shapes: shapesIn(info?.features ?? {}),
      encoders: info?.encoders ?? null,
      metadata: [
        join(path, STATE_FILE),
        ...(info === null ? [] : [infoPath]),
        ...(indices ?? []).map((file) => file.path),
      ],
    });
  },
  hint: (path) =>
    existsSync(join(path, 'dataset_dict.json'))
      ? 'It holds several splits; give the folder of one of them, such as "train"'
      : null,
};

/** The rows of the files that the column `indices` selects, in its order. */
function selectedRows(indices: readonly ArrowFile[], files: readonly ArrowFile[]): Float64Array {
  const stored = files.reduce((sum, { rows }) => sum + rows, 0);
  const order = new Float64Array(indices.reduce((sum, { rows }) => sum + rows, 0));
  let at = 0;
  for (const file of indices) {
    for (const value of integersOf(file, 'indices')) {
      if (value < 0 || value >= stored) {
        throw new OrchestratorError(
          'ERR_DATA_ROW',
          `${file.path} selects row ${value} of ${stored}`,
          'Save the set again after dataset.flatten_indices()',
        );
      }
      order[at++] = value;
    }
  }
  return order;
}

/** Shapes of rows that dataset_info.json states: those of ArrayND, and of flat lists of a fixed length. */
function shapesIn(features: Readonly<Record<string, unknown>>): Map<string, number[]> {
  const shapes = new Map<string, number[]>();
  for (const [name, feature] of Object.entries(features)) {
    const array = arraySchema.safeParse(feature);
    const list = listSchema.safeParse(feature);
    if (array.success) shapes.set(name, array.data.shape);
    else if (list.success) shapes.set(name, [list.data.length]);
  }
  return shapes;
}
