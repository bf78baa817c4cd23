/**
 * Reads folders that Hugging Face `datasets` wrote with `save_to_disk`: state.json, dataset_info.json and
 * Arrow streams.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { readJson } from '../files/json.js';
import { readArrow } from '../formats/arrow/file.js';
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
});

const infoSchema = z.object({
  features: z.record(z.string(), z.unknown()).nullable().default(null),
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
    const { _data_files } = readJson(join(path, STATE_FILE), stateSchema);
    const infoPath = join(path, INFO_FILE);
    // The file is optional; without it, the shapes are those of the columns themselves.
    const info = existsSync(infoPath) ? infoPath : null;
    return foreignSource({
      path,
      format: huggingFace,
      ...arrowRows(_data_files.map(({ filename }) => readArrow(join(path, filename)))),
      shapes: info === null ? new Map() : shapesIn(info),
      metadata: [join(path, STATE_FILE), ...(info === null ? [] : [info])],
    });
  },
  hint: (path) =>
    existsSync(join(path, 'dataset_dict.json'))
      ? 'It holds several splits; give the folder of one of them, such as "train"'
      : null,
};

/** Shapes of rows that dataset_info.json states: those of ArrayND, and of flat lists of a fixed length. */
function shapesIn(path: string): Map<string, number[]> {
  const shapes = new Map<string, number[]>();
  for (const [name, feature] of Object.entries(readJson(path, infoSchema).features ?? {})) {
    const array = arraySchema.safeParse(feature);
    const list = listSchema.safeParse(feature);
    if (array.success) shapes.set(name, array.data.shape);
    else if (list.success) shapes.set(name, [list.data.length]);
  }
  return shapes;
}
