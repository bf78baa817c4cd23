/**
 * TensorBoard's event files: TFRecords of the messages of proto/tensorboard.proto. A record is the size of its data
 * as a uint64, the checksum of these eight bytes, the data, and the checksum of the data, all little-endian.
 */
import { fileURLToPath } from 'node:url';
import { loadSync, type MessageTypeDefinition } from '@grpc/proto-loader';
import type { Event } from '../rpc/generated/tensorboard/Event.js';
import type { TensorProto } from '../rpc/generated/tensorboard/TensorProto.js';

const path = fileURLToPath(new URL('../../proto/tensorboard.proto', import.meta.url));
const { serialize } = loadSync(path)['tensorboard.Event'] as MessageTypeDefinition<Event, unknown>;

/** The first event of a file: the version from which a start of the session makes later points void. */
export const FILE_VERSION = 'brain.Event:2';

/** The record of an event. */
export function eventRecord(event: Event): Buffer {
  const data = serialize(event);
  const record = Buffer.alloc(12 + data.length + 4);
  record.writeBigUInt64LE(BigInt(data.length), 0);
  record.writeUInt32LE(maskedCrc32c(record.subarray(0, 8)), 8);
  data.copy(record, 12);
  record.writeUInt32LE(maskedCrc32c(data), 12 + data.length);
  return record;
}

/** A text as TensorBoard's tab Text shows it, which reads Markdown. */
export function textValue(tag: string, text: string): NonNullable<Event['summary']> {
  const tensor: TensorProto = {
    dtype: 'DT_STRING',
    tensorShape: { dim: [{ size: 1 }] },
    stringVal: [Buffer.from(text)],
  };
  return { value: [{ tag, tensor, metadata: { pluginData: { pluginName: 'text' } } }] };
}

/** The remainders of a byte by Castagnoli's polynomial, bits reversed. */
const REMAINDERS = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C (RFC 3720, B.4). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = REMAINDERS[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** As TFRecords have it, so that the checksum of bytes that hold checksums is no weaker. */
function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
