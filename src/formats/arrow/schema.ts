/**
 * Arrow's schema and record batch headers, decoded from FlatBuffers (Schema.fbs and Message.fbs of Arrow).
 */
import { type FlatTable, malformed } from './flatbuffer.js';

/** Values of the `Type` union, in the order of Schema.fbs. */
const TYPE_NAMES = [
  'none', 'null', 'int', 'float', 'binary', 'utf8', 'bool', 'decimal', 'date', 'time', 'timestamp', 'interval', 'list',
  'struct', 'union', 'fixed_size_binary', 'fixed_size_list', 'map', 'duration', 'large_binary', 'large_utf8',
  'large_list', 'run_end_encoded', 'binary_view', 'utf8_view', 'list_view', 'large_list_view',
] as const; // biome-ignore format: a table
type ArrowTypeName = (typeof TYPE_NAMES)[number];

export interface ArrowField {
  name: string;
  type: ArrowTypeName;
  /** Bits of an int or float; 0 for other types. */
  bits: number;
  signed: boolean;
  /** Elements of a fixed_size_list, or bytes of a fixed_size_binary; 0 for other types. */
  listSize: number;
  /** Where the values are indices into a dictionary: its id, and the indices' type. */
  dictionary: { id: number; bits: number; signed: boolean } | null;
  /** The extension type that is stored as this type, such as "arrow.fixed_shape_tensor", and its parameters. */
  extension: { name: string; parameters: string } | null;
  /** Whether a union is dense. */
  dense: boolean;
  children: ArrowField[];
}

/** The types whose values are lists of one kind of child. */
const ONE_CHILD = new Set(['list', 'large_list', 'fixed_size_list', 'map', 'list_view', 'large_list_view']);

/** A data set has no deeper nesting than this. */
const MAX_DEPTH = 32;
/** A data set has no more fields than this, which bounds the work that a malformed file can cause. */
const MAX_FIELDS = 10_000;

export function decodeSchema(table: FlatTable, where: string): ArrowField[] {
  if (table.int(0, 2) !== 0) throw malformed(where, 'big-endian values are not supported');
  const budget = { fields: MAX_FIELDS };
  return table.tables(1).map((field) => decodeField(field, where, 0, budget));
}

function decodeField(table: FlatTable, where: string, depth: number, budget: { fields: number }): ArrowField {
  budget.fields -= 1;
  if (depth > MAX_DEPTH || budget.fields < 0) {
    throw malformed(where, 'the schema is nested too deeply or too large');
  }
  const type = TYPE_NAMES[table.int(2, 1)] ?? 'none';
  const detail = table.table(3);
  const children = table.tables(5).map((child) => decodeField(child, where, depth + 1, budget));
  if (ONE_CHILD.has(type) && children.length !== 1) {
    throw malformed(where, `a ${type} has ${children.length} children`);
  }
  const field: ArrowField = {
    name: table.string(0),
    type,
    bits: 0,
    signed: false,
    listSize: 0,
    dictionary: dictionaryOf(table.table(4)),
    extension: extensionOf(table),
    dense: false,
    children,
  };
  if (!detail) return field;
  if (type === 'int') return { ...field, bits: detail.int(0, 4), signed: detail.int(1, 1) !== 0 };
  if (type === 'float') return { ...field, bits: [16, 32, 64][detail.int(0, 2)] ?? 0 };
  if (type === 'fixed_size_list' || type === 'fixed_size_binary') {
    const listSize = detail.int(0, 4);
    if (listSize < 0) throw malformed(where, `a ${type} has the size ${listSize}`);
    return { ...field, listSize };
  }
  if (type === 'union') return { ...field, dense: detail.int(0, 2) === 1 };
  return field;
}

function dictionaryOf(encoding: FlatTable | null): ArrowField['dictionary'] {
  if (!encoding) return null;
  const indices = encoding.table(1);
  return {
    id: encoding.size64(0),
    bits: indices ? indices.int(0, 4) : 32,
    signed: indices ? indices.int(1, 1) !== 0 : true,
  };
}

/** From the field's custom metadata. */
function extensionOf(field: FlatTable): ArrowField['extension'] {
  const metadata = new Map(field.tables(6).map((pair) => [pair.string(0), pair.string(1)]));
  const name = metadata.get('ARROW:extension:name');
  return name === undefined ? null : { name, parameters: metadata.get('ARROW:extension:metadata') ?? '' };
}

/** The header of a record batch; positions of buffers are counted from the start of its body. */
export function decodeBatch(table: FlatTable) {
  const compression = table.table(3);
  return {
    rows: table.size64(0),
    /** Length and number of nulls of each node. */
    nodes: table.pairs(1),
    /** Offset and length of each buffer. */
    buffers: table.pairs(2),
    /** "lz4", "zstd", "unknown" or null. */
    compression: compression && (['lz4', 'zstd'][compression.int(0, 1)] ?? 'unknown'),
    /** For each column of views, how many buffers it has beyond two. */
    variadicCounts: table.structs(4, 8, (size) => size(0)),
  };
}

/** Buffers by type where they are not two, by the columnar format (metadata version 5). */
const BUFFERS: Partial<Record<ArrowTypeName, number>> = {
  ...{ none: 0, null: 0, run_end_encoded: 0, struct: 1, fixed_size_list: 1, union: 1 },
  ...{ binary: 3, utf8: 3, large_binary: 3, large_utf8: 3, list_view: 3, large_list_view: 3 },
};

/**
 * The number of buffers of a field itself, without its children, and without those of views, whose number is
 * that of the batch.
 */
export function ownBuffers(field: ArrowField): number {
  return field.dictionary ? 2 : (BUFFERS[field.type] ?? 2) + (field.dense ? 1 : 0);
}

/** Whether a field is a column of views, with further buffers. */
export function isView({ type, dictionary }: ArrowField): boolean {
  return !dictionary && (type === 'binary_view' || type === 'utf8_view');
}

/** A type's name for messages: "float16", "fixed_size_list[1024] of float16", ... */
export function typeName(field: ArrowField): string {
  const { type, listSize, extension } = field;
  const inner = field.children[0];
  if (field.dictionary) return `dictionary-encoded ${typeName({ ...field, dictionary: null })}`;
  // Those of `datasets` say no more than the lists that they are stored as.
  if (extension?.name.startsWith('arrow.'))
    return `${extension.name} in ${typeName({ ...field, extension: null })}`;
  if (type === 'int') return `${field.signed ? '' : 'u'}int${field.bits}`;
  if (type === 'float') return `float${field.bits}`;
  if (type === 'fixed_size_binary') return `fixed_size_binary[${listSize}]`;
  if (type === 'fixed_size_list' && inner) return `fixed_size_list[${listSize}] of ${typeName(inner)}`;
  if (ONE_CHILD.has(type) && inner) return `${type} of ${typeName(inner)}`;
  if (type === 'struct') return `struct of ${field.children.map(({ name }) => name).join(', ')}`;
  return type;
}
