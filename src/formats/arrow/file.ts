/**
 * The metadata of Arrow IPC files and streams: the schema, and the position of each record batch's body.
 * Bodies are never read here; they are mapped natively. Every length is checked against the file's size
 * before it is used.
 */
import { OrchestratorError } from '../../errors.js';
import { FileReader } from '../../files/reader.js';
import { FlatTable, malformed } from './flatbuffer.js';
import { type ArrowField, decodeBatch, decodeSchema } from './schema.js';

/** A batch of a dictionary's values. */
interface DictionaryBatch {
  batch: ArrowBatch;
  /** Whether it continues the dictionary; otherwise it replaces it. */
  isDelta: boolean;
  /** The number of rows before it in the file. */
  before: number;
}

export interface ArrowBatch extends ReturnType<typeof decodeBatch> {
  /** Index among the file's record batches, for messages. */
  index: number;
  /** Its first row, counted from the start of the file. */
  firstRow: number;
  /** Byte offset of the body in the file. */
  body: number;
  bodyBytes: number;
}

export interface ArrowFile {
  path: string;
  bytes: number;
  fields: ArrowField[];
  batches: ArrowBatch[];
  /** The batches of each dictionary, in their order in the file. */
  dictionaries: Map<number, DictionaryBatch[]>;
  rows: number;
}

/** Header types of Message.fbs. */
const SCHEMA = 1;
const DICTIONARY_BATCH = 2;
const RECORD_BATCH = 3;

/** Marks the start of a message; formats before Arrow 0.15 have no such marker. */
const CONTINUATION = 0xffffffff;
const MAGIC = 'ARROW1';
/** Largest metadata that is read. Headers take kilobytes, and even large descriptions are far below this. */
const MAX_METADATA_BYTES = 64 * 2 ** 20;

/** Bytes read at once: the metadata of a message, and where messages are small, that of the next ones. */
const WINDOW_BYTES = 2 ** 14;

type Read = ReturnType<FileReader['windowed']>;

/** Reads the metadata of an Arrow IPC file, or of a stream if the file does not begin with Arrow's magic. */
export function readArrow(path: string): ArrowFile {
  return FileReader.using(path, (reader) => {
    if (reader.bytes === 0) throw reader.lacks('the first message');
    const { bytes } = reader;
    const file: ArrowFile = { path, bytes, fields: [], batches: [], dictionaries: new Map(), rows: 0 };
    const isFile = reader.bytes >= 8 && reader.read(0, 6, 'the magic').toString('latin1') === MAGIC;
    if (isFile) readFileFormat(reader, file);
    else readStreamFormat(reader, file);
    return file;
  });
}

/**
 * Reads the message at `position`, and checks that its metadata and its body, which ends at `end`, are within
 * the file; null at the end-of-stream marker.
 */
function readMessage(reader: FileReader, read: Read, position: number, what: string) {
  let prefix = 4;
  const start = read(position, Math.max(4, Math.min(8, reader.bytes - position)), what);
  let length = start.readUInt32LE(0);
  if (length === CONTINUATION) {
    if (start.length < 8) throw reader.lacks(what);
    length = start.readUInt32LE(4);
    prefix = 8;
  }
  if (length === 0) return null;
  const where = `${reader.path}, ${what}`;
  const body = position + prefix + length;
  if (length > MAX_METADATA_BYTES) {
    throw malformed(where, `the metadata has ${length} bytes; is it an Arrow IPC stream?`);
  }
  const table = FlatTable.root(read(position + prefix, length, `${what}'s metadata`), where);
  const bodyBytes = table.size64(3);
  if (bodyBytes > reader.bytes - body) throw reader.lacks(`${what}'s body (${bodyBytes} bytes at ${body})`);
  return { type: table.int(1, 1), header: table.table(2), body, bodyBytes, end: body + bodyBytes };
}

function readStreamFormat(reader: FileReader, file: ArrowFile): void {
  const read = reader.windowed(WINDOW_BYTES);
  let message = readMessage(reader, read, 0, 'the schema');
  if (message?.type !== SCHEMA || !message.header) {
    throw new OrchestratorError(
      'ERR_DATA_FORMAT',
      `${file.path} does not begin with an Arrow schema`,
      'Expected an Arrow IPC file or stream, as Hugging Face save_to_disk and orchestrator write it',
    );
  }
  file.fields = decodeSchema(message.header, file.path);
  for (let number = 1; message !== null; number++) {
    if (message.end === reader.bytes) throw reader.lacks('the end-of-stream marker');
    message = readMessage(reader, read, message.end, `message ${number}`);
    if (message?.type === DICTIONARY_BATCH) addDictionary(file, message);
    if (message?.type === RECORD_BATCH) addBatch(file, message);
  }
}

function readFileFormat(reader: FileReader, file: ArrowFile): void {
  const read = reader.windowed(WINDOW_BYTES);
  const { path, bytes } = reader;
  if (bytes < 22) throw reader.lacks('the footer');
  const tail = reader.read(bytes - 10, 10, 'the footer');
  if (tail.toString('latin1', 4) !== MAGIC) throw reader.lacks(`the closing "${MAGIC}"`);
  const length = tail.readUInt32LE(0);
  if (length > MAX_METADATA_BYTES || length > bytes - 18) {
    throw malformed(path, `the footer claims to have ${length} bytes`);
  }
  const footer = FlatTable.root(reader.read(bytes - 10 - length, length, 'the footer'), `${path}, footer`);
  const schema = footer.table(1);
  if (!schema) throw malformed(path, 'the footer has no schema');
  file.fields = decodeSchema(schema, path);
  for (const [i, offset] of footer.structs(2, 24, (size64) => size64(0)).entries()) {
    const message = readMessage(reader, read, offset, `dictionary ${i}`);
    if (message?.type !== DICTIONARY_BATCH) {
      throw malformed(path, `the footer claims a dictionary at ${offset}, but there is none`);
    }
    addDictionary(file, message);
  }
  let end = 8;
  for (const [i, offset] of footer.structs(3, 24, (size64) => size64(0)).entries()) {
    // This also prevents a footer that names one large batch a million times.
    if (offset < end) throw malformed(`${path}, footer`, `record batch ${i} overlaps what precedes it`);
    const message = readMessage(reader, read, offset, `record batch ${i}`);
    if (message?.type !== RECORD_BATCH) {
      throw malformed(path, `the footer claims a record batch at ${offset}, but there is none`);
    }
    addBatch(file, message);
    end = message.end;
  }
}

type Message = NonNullable<ReturnType<typeof readMessage>>;

/** Appends a record batch. Batches without rows are skipped. */
function addBatch(file: ArrowFile, { header, body, bodyBytes }: Message): void {
  const index = file.batches.length;
  const where = `${file.path}, record batch ${index} (from row ${file.rows})`;
  const { rows, nodes, buffers, compression, variadicCounts } = batchOf(header, bodyBytes, where);
  if (rows === 0) return;
  // Named one by one: objects with spread properties take twice as long to read, and there may be 100,000.
  const firstRow = file.rows;
  file.batches.push({ rows, nodes, buffers, compression, variadicCounts, index, firstRow, body, bodyBytes });
  file.rows += rows;
  if (!Number.isSafeInteger(file.rows)) throw malformed(where, 'too many rows');
}

/** Appends a batch of a dictionary: a record batch of one column, with the dictionary's id. */
function addDictionary(file: ArrowFile, { header, body, bodyBytes }: Message): void {
  const id = header?.size64(0) ?? 0;
  const decoded = batchOf(header?.table(1) ?? null, bodyBytes, `${file.path}, dictionary ${id}`);
  const list = file.dictionaries.get(id) ?? [];
  file.dictionaries.set(id, list);
  const batch = { ...decoded, index: list.length, firstRow: 0, body, bodyBytes };
  list.push({ batch, isDelta: header!.int(2, 1) !== 0, before: file.rows });
}

/** Decodes the header of a record batch, and checks that its buffers are within its body. */
function batchOf(table: FlatTable | null, bodyBytes: number, where: string) {
  if (!table) throw malformed(where, 'no header');
  const header = decodeBatch(table);
  for (let i = 0; i < header.buffers.length; i += 2) {
    const [offset, length] = [header.buffers[i]!, header.buffers[i + 1]!];
    if (offset > bodyBytes || length > bodyBytes - offset) {
      const buffer = `a buffer of ${length} bytes at ${offset}`;
      throw malformed(where, `${buffer} is outside the body of ${bodyBytes} bytes`);
    }
  }
  return header;
}
