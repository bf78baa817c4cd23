/** How messages are framed, as gRPC has it, with a checksum before the bytes of those that servers send. */
import { native } from '../native/load.js';

/** Bytes of what precedes a message: whether it is compressed, and its length. */
export const PREFIX = 5;
/** The checksum at the beginning of each message of a server: 64 bits, the lowest byte first. */
export const CHECKSUM = 8;

/** What precedes a message: that it is not compressed, and its length. */
export function prefixOf(length: number): Buffer {
  const prefix = Buffer.alloc(PREFIX);
  prefix.writeUInt32BE(length, 1);
  return prefix;
}

/** What precedes the bytes of a message of a server: the prefix, and their checksum. */
export function headOf(bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(PREFIX + CHECKSUM);
  head.writeUInt32BE(CHECKSUM + bytes.byteLength, 1);
  head.writeBigUInt64LE(native().checksum(bytes), PREFIX);
  return head;
}

/** A message of a server that is not a StreamServer, for those that pull: its bytes behind their checksum. */
export function checkedMessage(bytes: Uint8Array): Buffer {
  return Buffer.concat([headOf(bytes).subarray(PREFIX), bytes]);
}
