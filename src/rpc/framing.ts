/**
 * gRPC for bulk bytes: one server-streaming method, implemented on node:http2 (grpc-server.ts, grpc-client.ts). It is
 * wire-compatible with grpc-js (a test connects the two), but does not copy bytes into messages: the sender writes
 * views of its memory, and the receiver stores every piece at its destination as it arrives. This halves the processor
 * time, and without a megabyte of garbage per message the event loop has no long garbage collections
 * (`npm run bench -- --only exchange`). This file is what both sides agree on: messages are framed as gRPC has it. Those
 * that servers send begin with a checksum of their bytes, because within a machine there is no TLS that would notice a
 * flipped bit.
 */
import { native } from '../native/load.js';

export const CONTENT_TYPE = 'application/grpc+proto';
/** Memory of a session. Queued messages are views, which take none. */
export const SESSION_MEGABYTES = 64;

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
