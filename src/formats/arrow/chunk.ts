/** One column in one record batch: its nodes and the positions of its buffers, level by level. */
import { type ErrorCode, OrchestratorError } from '../../errors.js';
import type { ArrowBatch, ArrowFile } from './file.js';
import { type ArrowField, isView, ownBuffers } from './schema.js';

/** One level of a nested column in one batch: its node, and the positions of its buffers. */
export interface Level {
  field: ArrowField;
  node: { length: number; nulls: number };
  /** Byte offset in the file and length of buffer `i` of the level: validity, then offsets or values. */
  buffer: (i: number) => { offset: number; length: number };
}

/** The first node and buffer of a field among those of a batch. */
interface Place {
  field: ArrowField;
  node: number;
  buffer: number;
  /** Columns of views before it, whose further buffers each batch counts. */
  views: number;
}

/** A column in a file: its fields from the top to the values, and where their buffers are in every batch. */
export class ArrowColumn {
  readonly file: ArrowFile;
  readonly name: string;
  /** The fields from the top of the file to the innermost that is wanted. */
  readonly path: readonly ArrowField[];
  readonly #places: Place[];

  constructor(file: ArrowFile, name: string, path: readonly ArrowField[], fields = file.fields) {
    this.file = file;
    this.name = name;
    this.path = path;
    this.#places = placesOf(fields, path);
  }

  /** ERR_DATA_COMPRESSED if the batch is compressed. */
  chunk(batch: ArrowBatch): Chunk {
    return new Chunk(`${this.file.path}, column "${this.name}"`, this.#places, batch);
  }
}

/** Nodes and buffers are in the order of the fields, parents before children. */
function placesOf(fields: readonly ArrowField[], path: readonly ArrowField[]): Place[] {
  const places: Place[] = [];
  let [node, buffer, views] = [0, 0, 0];
  const visit = (field: ArrowField): void => {
    if (path.includes(field)) places.push({ field, node, buffer, views });
    node += 1;
    buffer += ownBuffers(field);
    if (isView(field)) views += 1;
    if (!field.dictionary) field.children.forEach(visit);
  };
  fields.forEach(visit);
  return places;
}

export class Chunk {
  readonly batch: ArrowBatch;
  readonly levels: Level[];
  readonly #column: string;

  constructor(column: string, places: readonly Place[], batch: ArrowBatch) {
    this.batch = batch;
    this.#column = column;
    if (batch.compression !== null) {
      throw new OrchestratorError(
        'ERR_DATA_COMPRESSED',
        `${column}, row ${batch.firstRow}: record batch ${batch.index} is compressed with ` +
          `${batch.compression}; compressed files cannot be mapped`,
        'Write the file again without compression: pyarrow.ipc.IpcWriteOptions(compression=None)',
      );
    }
    this.levels = places.map((place) => this.#level(place));
  }

  #level({ field, node, buffer, views }: Place): Level {
    const { body, nodes, buffers, variadicCounts } = this.batch;
    let first = buffer;
    for (let i = 0; i < views; i++) first += variadicCounts[i] ?? 0;
    if (2 * node + 1 >= nodes.length || 2 * (first + ownBuffers(field)) > buffers.length) {
      throw this.malformed('the batch lacks its buffers');
    }
    return {
      field,
      node: { length: nodes[2 * node]!, nulls: nodes[2 * node + 1]! },
      buffer: (i) => ({ offset: body + buffers[2 * (first + i)]!, length: buffers[2 * (first + i) + 1]! }),
    };
  }

  /** The error for values that cannot be used, by the row of the batch that they belong to. */
  wrong(code: ErrorCode, row: number, what: string, hint: string | null = null): OrchestratorError {
    return new OrchestratorError(code, `${this.#column}, row ${this.batch.firstRow + row}: ${what}`, hint);
  }

  /** The error for a batch whose parts contradict each other. */
  malformed(what: string): OrchestratorError {
    const { index, firstRow } = this.batch;
    const where = `${this.#column}, record batch ${index} (from row ${firstRow})`;
    return new OrchestratorError('ERR_DATA_FORMAT', `${where}: ${what}`);
  }
}

/** The fields from the top of a file to this column; ERR_DATA_COLUMN lists the names that exist. */
export function fieldPath(file: ArrowFile, name: string): ArrowField[] {
  const found = within(file.fields, name);
  if (found) return found;
  const names = file.fields.map((field) => `"${field.name}"`).join(', ');
  throw new OrchestratorError(
    'ERR_DATA_COLUMN',
    `${file.path} has no column "${name}"; it has ${names || 'none'}`,
  );
}

/** "a.b" is a field with this name, or the field b of the struct a, as `datasets` names it when it flattens. */
function within(fields: readonly ArrowField[], name: string): ArrowField[] | null {
  const own = fields.find((field) => field.name === name);
  if (own) return [own];
  for (const field of fields) {
    if (field.type !== 'struct' || field.dictionary || !name.startsWith(`${field.name}.`)) continue;
    const below = within(field.children, name.slice(field.name.length + 1));
    if (below) return [field, ...below];
  }
  return null;
}
