/**
 * Reads folders that Hugging Face `datasets` wrote with `save_to_disk`: state.json, dataset_info.json and
 * Arrow streams.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { parseJson, readJson } from '../files/json.js';

export const HUGGING_FACE_FILE = 'state.json';
const INFO_FILE = 'dataset_info.json';
/** The metadata files of a folder. */
export const HUGGING_FACE_FILES = [HUGGING_FACE_FILE, INFO_FILE];

const stateSchema = z.object({
  _data_files: z
    .array(
      z.object({
        filename: z
          .string()
          .min(1)
          .refine(
            (name) => !name.startsWith('/') && !name.includes('\0') && !name.split('/').includes('..'),
            'expected a file name inside the folder',
          ),
      }),
    )
    .max(1_000_000)
    .refine((files) => new Set(files.map((f) => f.filename)).size === files.length, 'a file is listed twice'),
});

const size = z
  .number()
  .int()
  .positive()
  .max(2 ** 31 - 1);
const infoSchema = z.object({
  features: z.record(z.string(), z.unknown()).nullable().default(null),
});
const arraySchema = z.object({
  _type: z.enum(['Array2D', 'Array3D', 'Array4D', 'Array5D']),
  shape: z.array(size).min(2).max(5),
});
const listSchema = z.object({ _type: z.enum(['List', 'LargeList', 'Sequence']), length: size });

/** What the metadata of a folder states. */
export interface HuggingFaceFolder {
  /** Paths of the Arrow files, in order. */
  files: string[];
  /** Shapes of rows that dataset_info.json states: those of ArrayND, and of lists of a fixed length. */
  shapes: Map<string, number[]>;
}

/**
 * Reads the metadata of a folder.
 *
 * @throws OrchestratorError ERR_FILE_OPEN, ERR_DATA_FORMAT.
 */
export function readHuggingFace(dir: string): HuggingFaceFolder {
  const statePath = join(dir, HUGGING_FACE_FILE);
  const state = parseJson(statePath, stateSchema, readJson(statePath));
  const shapes = new Map<string, number[]>();
  const infoPath = join(dir, INFO_FILE);
  // The file is optional; without it, the shapes are those of the columns themselves.
  if (existsSync(infoPath)) {
    const info = parseJson(infoPath, infoSchema, readJson(infoPath));
    for (const [name, feature] of Object.entries(info.features ?? {})) {
      const array = arraySchema.safeParse(feature);
      const list = listSchema.safeParse(feature);
      if (array.success) shapes.set(name, array.data.shape);
      else if (list.success) shapes.set(name, [list.data.length]);
    }
  }
  return { files: state._data_files.map(({ filename }) => join(dir, filename)), shapes };
}
