/**
 * Arrow's schema and record batch headers, decoded from FlatBuffers (Schema.fbs and Message.fbs of Arrow).
 */
import { OrchestratorError } from '../../errors.js';
import type { FlatTable } from './flatbuffer.js';

/** Values of the `Type` union, in the order of Schema.fbs. */
const TYPE_NAMES = [
  'none', 'null', 'int', 'float', 'binary', 'utf8', 'bool', 'decimal', 'date', 'time', 'timestamp', 'interval', 'list',
  'struct', 'union', 'fixed_size_binary', 'fixed_size_list', 'map', 'duration', 'large_binary', 'large_utf8',
  'large_list', 'run_end_encoded', 'binary_view', 'utf8_view', 'list_view', 'large_list_view',
] as const; // biome-ignore format: a table
export type ArrowTypeName = (typeof TYPE_NAMES)[number];

export interface ArrowField {
  name: string;
  type: ArrowTypeName;
  /** Bits of an int or float; 0 for other types. */
  bits: number;
  signed: boolean;
  /** Elements of a fixed_size_list; 0 for other types. */
  listSize: number;
  /** Whether the values are indices into a dictionary. */
  dictionary: boolean;
  /** Whether a union is dense. */
  dense: boolean;
  children: ArrowField[];
}

export interface ArrowNode {
  length: number;
  nulls: number;
}

export interface ArrowBuffer {
  /** Offset from the start of the body. */
  offset: number;
  length: number;
}

export interface ArrowBatchHeader {
  rows: number;
  nodes: ArrowNode[];
  buffers: ArrowBuffer[];
  /** "lz4", "zstd" or null. */
  compression: string | null;
  variadicCounts: number[];
}

/** A data set has no deeper nesting than this. */
const MAX_DEPTH = 32;
/** A data set has no more fields than this, which bounds the work that a malformed file can cause. */
const MAX_FIELDS = 10_000;

/** @throws OrchestratorError ERR_DATA_FORMAT. */
export function decodeSchema(table: FlatTable, where: string): ArrowField[] {
  if (table.int16(0) !== 0) {
    throw new OrchestratorError('ERR_DATA_FORMAT', `${where}: big-endian values are not supported`);
  }
  const budget = { fields: MAX_FIELDS };
  return table.tables(1).map((field) => decodeField(field, where, 0, budget));
}

function decodeField(table: FlatTable, where: string, depth: number, budget: { fields: number }): ArrowField {
  budget.fields -= 1;
  if (depth > MAX_DEPTH || budget.fields < 0) {
    throw new OrchestratorError('ERR_DATA_FORMAT', `${where}: the schema is nested too deeply or too large`);
  }
  const type = TYPE_NAMES[table.uint8(2)] ?? 'none';
  const detail = table.table(3);
  const children = table.tables(5).map((child) => decodeField(child, where, depth + 1, budget));
  const wanted = ['list', 'large_list', 'fixed_size_list', 'map', 'list_view', 'large_list_view'];
  if (wanted.includes(type) && children.length !== 1) {
    throw new OrchestratorError('ERR_DATA_FORMAT', `${where}: a ${type} has ${children.length} children`);
  }
  let bits = 0;
  if (type === 'int') bits = detail?.int32(0) ?? 0;
  if (type === 'float') bits = [16, 32, 64][detail?.int16(0) ?? 0] ?? 0;
  return {
    name: table.string(0) ?? '',
    type,
    bits,
    signed: type === 'int' && (detail?.uint8(1) ?? 0) !== 0,
    listSize: type === 'fixed_size_list' ? (detail?.int32(0) ?? 0) : 0,
    dictionary: table.table(4) !== null,
    dense: type === 'union' && detail?.int16(0) === 1,
    children,
  };
}

export function decodeBatch(table: FlatTable): ArrowBatchHeader {
  const compression = table.table(3);
  return {
    rows: table.size64(0),
    nodes: table.structs(1, 16, (size) => ({ length: size(0), nulls: size(8) })),
    buffers: table.structs(2, 16, (size) => ({ offset: size(0), length: size(8) })),
    compression: compression ? (['lz4', 'zstd'][compression.uint8(0)] ?? 'unknown') : null,
    variadicCounts: table.structs(4, 8, (size) => size(0)),
  };
}

/** The number of nodes and buffers of a record batch that belong to a field and its descendants. */
export interface Extent {
  nodes: number;
  buffers: number;
}

/**
 * The number of buffers of a field itself, without its children, by the columnar format (metadata version 5).
 */
export function ownBuffers(field: ArrowField, takeVariadicCount: () => number): number {
  if (field.dictionary) return 2;
  switch (field.type) {
    case 'null':
    case 'run_end_encoded':
    case 'none':
      return 0;
    case 'struct':
    case 'fixed_size_list':
      return 1;
    case 'union':
      return field.dense ? 2 : 1;
    case 'binary':
    case 'utf8':
    case 'large_binary':
    case 'large_utf8':
    case 'list_view':
    case 'large_list_view':
      return 3;
    case 'binary_view':
    case 'utf8_view':
      return 2 + takeVariadicCount();
    default:
      return 2;
  }
}

/** The nodes and buffers of a field and its descendants. */
export function extentOf(field: ArrowField, takeVariadicCount: () => number): Extent {
  const extent = { nodes: 1, buffers: ownBuffers(field, takeVariadicCount) };
  if (field.dictionary) return extent;
  for (const child of field.children) {
    const below = extentOf(child, takeVariadicCount);
    extent.nodes += below.nodes;
    extent.buffers += below.buffers;
  }
  return extent;
}

/** A type's name for messages: "float16", "fixed_size_list[1024] of float16", ... */
export function typeName(field: ArrowField): string {
  const inner = field.children[0];
  if (field.dictionary) return `dictionary-encoded ${field.type}`;
  if (field.type === 'int') return `${field.signed ? '' : 'u'}int${field.bits}`;
  if (field.type === 'float') return `float${field.bits}`;
  if (field.type === 'fixed_size_list' && inner)
    return `fixed_size_list[${field.listSize}] of ${typeName(inner)}`;
  if ((field.type === 'list' || field.type === 'large_list') && inner)
    return `${field.type} of ${typeName(inner)}`;
  return field.type;
}
