/** The metadata of Parquet files: row groups, and the leaf columns that can be kept. */
import { type ColumnMetaData, type FileMetaData, parquetMetadata, type SchemaElement } from 'hyparquet';
import { getMaxDefinitionLevel, getMaxRepetitionLevel, getSchemaPath } from 'hyparquet/src/schema.js';
import { OrchestratorError } from '../../errors.js';
import { FileReader } from '../../files/reader.js';

/** What a column's values become: numbers of lists, the bytes of a row, or one label a row. */
type KeptType = 'float16' | 'float32' | 'float64' | 'uint16' | 'bytes' | 'utf8' | 'int64';

export interface ParquetColumn {
  /** The names from the top of the schema, lists' inner names left out: "latent", "sample.latent". */
  name: string;
  path: string[];
  type: KeptType;
  /** Bytes of one stored value; 0 where each has its own length. */
  storedBytes: number;
  /** List levels, and the definition level of a value that is not null. */
  maxRepetition: number;
  maxDefinition: number;
}

interface ParquetGroup {
  rows: number;
  /** The column chunks by path. */
  chunks: Map<string, ColumnMetaData>;
}

export interface ParquetFile {
  path: string;
  bytes: number;
  rows: number;
  groups: ParquetGroup[];
  columns: ParquetColumn[];
  /** Columns that cannot be kept, and their types. */
  others: { name: string; type: string }[];
}

/** Largest metadata that is read. */
const MAX_FOOTER_BYTES = 256 * 2 ** 20;

export const keyOf = (path: readonly string[]) => path.join('\0');

/** Reads a file's footer. ERR_DATA_FORMAT if it is not Parquet's. */
export function readParquet(path: string): ParquetFile {
  const { footer, bytes } = FileReader.using(path, (reader) => {
    if (reader.bytes < 12) throw reader.lacks("Parquet's footer");
    const length = reader.read(reader.bytes - 8, 4, 'the length of the footer').readUInt32LE(0) + 8;
    if (length > reader.bytes || length > MAX_FOOTER_BYTES) {
      throw new OrchestratorError('ERR_DATA_FORMAT', `${path}: the footer claims to have ${length} bytes`);
    }
    return { footer: reader.read(reader.bytes - length, length, 'the footer'), bytes: reader.bytes };
  });
  return readingParquet(path, () => {
    const metadata = parquetMetadata(footer, { geoparquet: false });
    return { path, bytes, ...contentsOf(metadata) };
  });
}

/** Runs a parser of untrusted bytes, whose errors have no code. */
export function readingParquet<T>(where: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof OrchestratorError) throw error;
    throw new OrchestratorError('ERR_DATA_FORMAT', `${where}: ${(error as Error).message}`, { cause: error });
  }
}

function contentsOf({ schema, row_groups }: FileMetaData): Omit<ParquetFile, 'path' | 'bytes'> {
  const groups = row_groups.map(({ num_rows, columns }): ParquetGroup => {
    const chunks = columns.flatMap(({ meta_data }) => (meta_data ? [meta_data] : []));
    return {
      rows: Number(num_rows),
      chunks: new Map(chunks.map((chunk) => [keyOf(chunk.path_in_schema), chunk])),
    };
  });
  const columns: ParquetColumn[] = [];
  const others: ParquetFile['others'] = [];
  for (const path of [...(groups[0]?.chunks.values() ?? [])].map((chunk) => chunk.path_in_schema)) {
    const nodes = getSchemaPath(schema, path);
    const element = nodes.at(-1)!.element;
    const maxRepetition = getMaxRepetitionLevel(nodes);
    const kept = keptAs(element, maxRepetition);
    const name = nameOf(schema, path);
    const type = element.logical_type?.type ?? element.type ?? 'a group';
    // Keys and values of a map, or lists of structs, would have one name.
    const isTwice = [...columns, ...others].some((other) => other.name === name);
    if (kept === null || isTwice) others.push({ name, type });
    else columns.push({ name, path, ...kept, maxRepetition, maxDefinition: getMaxDefinitionLevel(nodes) });
  }
  return { rows: groups.reduce((sum, group) => sum + group.rows, 0), groups, columns, others };
}

/** A list is stored as a group with a repeated group; their names are not the column's. */
function nameOf(schema: SchemaElement[], path: string[]): string {
  const nodes = getSchemaPath(schema, path).slice(1);
  const repeated = nodes.findIndex(({ element }) => element.repetition_type === 'REPEATED');
  return path.slice(0, repeated < 0 ? path.length : Math.max(1, repeated)).join('.');
}

function keptAs(
  { type, type_length, logical_type, converted_type }: SchemaElement,
  lists: number,
): Pick<ParquetColumn, 'type' | 'storedBytes'> | null {
  const isText = logical_type?.type === 'STRING' || converted_type === 'UTF8';
  if (lists === 0) {
    if (type === 'BYTE_ARRAY') return { type: isText ? 'utf8' : 'bytes', storedBytes: 0 };
    if (type === 'INT64') return { type: 'int64', storedBytes: 8 };
    if (type === 'INT32') return { type: 'int64', storedBytes: 4 };
    return null;
  }
  if (type === 'FIXED_LEN_BYTE_ARRAY' && type_length === 2 && logical_type?.type === 'FLOAT16') {
    return { type: 'float16', storedBytes: 2 };
  }
  if (type === 'FLOAT') return { type: 'float32', storedBytes: 4 };
  if (type === 'DOUBLE') return { type: 'float64', storedBytes: 8 };
  const is16 = logical_type?.type === 'INTEGER' && logical_type.bitWidth === 16;
  const was16 = converted_type === 'INT_16' || converted_type === 'UINT_16';
  return type === 'INT32' && (is16 || was16) ? { type: 'uint16', storedBytes: 4 } : null;
}
