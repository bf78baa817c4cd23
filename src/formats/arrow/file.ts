/**
 * The metadata of Arrow IPC files and streams: the schema, and the position of each record batch's body.
 * Bodies are never read here; they are mapped natively. Every length is checked against the file's size
 * before it is used.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { OrchestratorError } from '../../errors.js';
import { notRegular, readFailure } from '../../files/io.js';
import { FlatTable } from './flatbuffer.js';
import { type ArrowBatchHeader, type ArrowField, decodeBatch, decodeSchema } from './schema.js';

export interface ArrowBatch extends ArrowBatchHeader {
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
  rows: number;
}

/** Header types of Message.fbs. */
const SCHEMA = 1;
const RECORD_BATCH = 3;

/** Marks the start of a message; formats before Arrow 0.15 have no such marker. */
const CONTINUATION = 0xffffffff;
const MAGIC = 'ARROW1';
/** Largest metadata that is read. Headers take kilobytes, and even large descriptions are far below this. */
const MAX_METADATA_BYTES = 64 * 2 ** 20;

/** Reads from an open file at given positions, never beyond the size that the file had when it was opened. */
export class FileReader {
  readonly path: string;
  readonly bytes: number;
  readonly #fd: number;

  /** @throws OrchestratorError ERR_FILE_OPEN. */
  constructor(path: string) {
    this.path = path;
    try {
      this.#fd = openSync(path, 'r');
    } catch (cause) {
      throw readFailure('open', path, cause);
    }
    const status = fstatSync(this.#fd);
    this.bytes = status.size;
    if (!status.isFile()) {
      this.close();
      throw notRegular(path);
    }
  }

  /** @throws OrchestratorError ERR_FILE_TRUNCATED: [position, position + length) is not within the file. */
  read(position: number, length: number, what: string): Buffer {
    if (position < 0 || length < 0 || position + length > this.bytes) {
      throw truncated(this.path, `${what} (${length} bytes at ${position})`, this.bytes);
    }
    const buffer = Buffer.allocUnsafe(length);
    let done = 0;
    while (done < length) {
      const n = readSync(this.#fd, buffer, done, length - done, position + done);
      if (n === 0) throw truncated(this.path, `${what} (${length} bytes at ${position})`, this.bytes);
      done += n;
    }
    return buffer;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/**
 * Reads the metadata of an Arrow IPC file, or of a stream if the file does not begin with Arrow's magic.
 *
 * @throws OrchestratorError ERR_FILE_OPEN, ERR_FILE_TRUNCATED, ERR_DATA_FORMAT.
 */
export function readArrow(path: string): ArrowFile {
  const reader = new FileReader(path);
  try {
    if (reader.bytes === 0) throw truncated(path, 'the first message', 0);
    const isFile = reader.bytes >= 8 && reader.read(0, 6, 'the magic').toString('latin1') === MAGIC;
    return isFile ? readFileFormat(reader) : readStreamFormat(reader);
  } finally {
    reader.close();
  }
}

interface Message {
  type: number;
  header: FlatTable | null;
  body: number;
  bodyBytes: number;
  /** Position after the body; null at the end-of-stream marker. */
  next: number | null;
}

/** Reads the message at `position`, and checks that its metadata and its body are within the file. */
function readMessage(reader: FileReader, position: number, what: string): Message {
  const { path, bytes } = reader;
  let prefix = 4;
  let length = reader.read(position, 4, what).readUInt32LE(0);
  if (length === CONTINUATION) {
    length = reader.read(position + 4, 4, what).readUInt32LE(0);
    prefix = 8;
  }
  // The format before Arrow 0.15 has no continuation marker.
  if (length === 0) return { type: 0, header: null, body: 0, bodyBytes: 0, next: null };
  const where = `${path}, ${what}`;
  const body = position + prefix + length;
  if (length > MAX_METADATA_BYTES) {
    throw new OrchestratorError(
      'ERR_DATA_FORMAT',
      `${where}: the metadata has ${length} bytes; is it an Arrow IPC stream?`,
    );
  }
  const table = FlatTable.root(reader.read(position + prefix, length, `${what}'s metadata`), where);
  const bodyBytes = table.size64(3);
  if (bodyBytes > bytes - body)
    throw truncated(path, `${what}'s body (${bodyBytes} bytes at ${body})`, bytes);
  return { type: table.uint8(1), header: table.table(2), body, bodyBytes, next: body + bodyBytes };
}

function readStreamFormat(reader: FileReader): ArrowFile {
  const { path } = reader;
  const file: ArrowFile = { path, bytes: reader.bytes, fields: [], batches: [], rows: 0 };
  let position = 0;
  for (let number = 0; ; number++) {
    if (position === reader.bytes) throw truncated(path, 'the end-of-stream marker', reader.bytes);
    const message = readMessage(reader, position, number === 0 ? 'the schema' : `message ${number}`);
    if (number === 0) file.fields = schemaOf(message, path);
    else if (message.type === RECORD_BATCH) addBatch(file, message);
    if (message.next === null) return file;
    position = message.next;
  }
}

function readFileFormat(reader: FileReader): ArrowFile {
  const { path, bytes } = reader;
  const file: ArrowFile = { path, bytes, fields: [], batches: [], rows: 0 };
  if (bytes < 22) throw truncated(path, 'the footer', bytes);
  const tail = reader.read(bytes - 10, 10, 'the footer');
  if (tail.toString('latin1', 4) !== MAGIC) throw truncated(path, `the closing "${MAGIC}"`, bytes);
  const length = tail.readUInt32LE(0);
  if (length > MAX_METADATA_BYTES || length > bytes - 18) {
    throw new OrchestratorError('ERR_DATA_FORMAT', `${path}: the footer claims to have ${length} bytes`);
  }
  const footer = FlatTable.root(reader.read(bytes - 10 - length, length, 'the footer'), `${path}, footer`);
  const schema = footer.table(1);
  if (!schema) throw new OrchestratorError('ERR_DATA_FORMAT', `${path}: the footer has no schema`);
  file.fields = decodeSchema(schema, path);
  const blocks = footer.structs(3, 24, (size64) => size64(0));
  let end = 8;
  for (const [i, offset] of blocks.entries()) {
    // This also prevents a footer that names one large batch a million times.
    if (offset < end) {
      throw new OrchestratorError(
        'ERR_DATA_FORMAT',
        `${path}, footer: record batch ${i} overlaps what precedes it`,
      );
    }
    const message = readMessage(reader, offset, `record batch ${i}`);
    if (message.type !== RECORD_BATCH) {
      throw new OrchestratorError(
        'ERR_DATA_FORMAT',
        `${path}: the footer claims a record batch at ${offset}, but there is none`,
      );
    }
    addBatch(file, message);
    end = message.body + message.bodyBytes;
  }
  return file;
}

function schemaOf(message: Message, path: string): ArrowField[] {
  if (message.type !== SCHEMA || !message.header) {
    throw new OrchestratorError(
      'ERR_DATA_FORMAT',
      `${path} does not begin with an Arrow schema`,
      'Expected an Arrow IPC file or stream, as Hugging Face save_to_disk and orchestrator write it',
    );
  }
  return decodeSchema(message.header, path);
}

/**
 * Appends a record batch after checking that its buffers are within its body. Batches without rows are
 * skipped.
 */
function addBatch(file: ArrowFile, message: Message): void {
  const index = file.batches.length;
  const where = `${file.path}, record batch ${index} (from row ${file.rows})`;
  if (!message.header) throw new OrchestratorError('ERR_DATA_FORMAT', `${where}: no header`);
  const header = decodeBatch(message.header);
  for (const buffer of header.buffers) {
    if (buffer.offset > message.bodyBytes || buffer.length > message.bodyBytes - buffer.offset) {
      throw new OrchestratorError(
        'ERR_DATA_FORMAT',
        `${where}: a buffer of ${buffer.length} bytes at ${buffer.offset} is outside the body of ${message.bodyBytes} bytes`,
      );
    }
  }
  if (header.rows === 0) return;
  const { body, bodyBytes } = message;
  file.batches.push({ ...header, index, firstRow: file.rows, body, bodyBytes });
  file.rows += header.rows;
  if (!Number.isSafeInteger(file.rows))
    throw new OrchestratorError('ERR_DATA_FORMAT', `${where}: too many rows`);
}

function truncated(path: string, missing: string, bytes: number): OrchestratorError {
  return new OrchestratorError(
    'ERR_FILE_TRUNCATED',
    `${path} is truncated: it has ${bytes} bytes and lacks ${missing}`,
  );
}
