/** The receiving side of gRPC for bulk bytes; see framing.ts. */
import { once } from 'node:events';
import { type ClientHttp2Stream, connect, constants as http2, type IncomingHttpHeaders } from 'node:http2';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { native } from '../native/load.js';
import { WrongPeer } from '../security/identity.js';
import { printable } from '../text/printable.js';
import { Arriving } from './arriving.js';
import { CHECKSUM, CONTENT_TYPE, PREFIX, prefixOf, SESSION_MEGABYTES } from './framing.js';
import { connectLink, type Link, Unreachable } from './links.js';
import { watchConnection } from './watch-connection.js';

/**
 * HTTP/2 window of the receiver, per stream and connection. With the default window of 64 KiB a stream drops
 * to 4 MB/s at a round-trip time of 10 ms. A grpc-js server ignores this option, so bulk data is pulled.
 */
const WINDOW = 8 * 1024 * 1024;
/** Time between attempts to connect. */
const RETRY_MS = 50;
/** A server that leaves so many pings unanswered, one a second, is gone. */
const PINGS = 3;

/** The destination of a call's messages. */
export interface Receiver {
  /** Memory of exactly this many bytes for the next message; throws when no message is expected. */
  open(bytes: number): Uint8Array;
  /** The message is complete. Returning false pauses the call until resume(). */
  close(): boolean;
  /** The call ended; `error` is null for status OK. */
  ended(error: Error | null): void;
}

/** The text of a grpc-message, as it was sent if it is not encoded correctly, but never with control characters. */
function decoded(text: string): string {
  try {
    return printable(decodeURIComponent(text));
  } catch {
    return printable(text);
  }
}

/** The other side was reached, and has answered that it cannot serve the call. */
export class StatusError extends Error {
  readonly code: status;

  constructor(code: status, details: string) {
    super(details);
    this.code = code;
  }
}

/** The receiving side of one call. */
export class PulledCall {
  readonly #stream: ClientHttp2Stream;
  readonly #receiver: Receiver;
  readonly #head = Buffer.alloc(PREFIX + CHECKSUM);
  /** What arrives now: the head of a message, or its bytes in the receiver's memory. */
  readonly #arriving = new Arriving(this.#head);
  #status: IncomingHttpHeaders | null = null;
  #over = false;

  constructor(stream: ClientHttp2Stream, request: Uint8Array, receiver: Receiver) {
    this.#stream = stream;
    this.#receiver = receiver;
    stream.on('response', (headers) => {
      if (headers['grpc-status'] !== undefined) this.#status = headers;
    });
    stream.on('trailers', (headers) => {
      this.#status = headers;
    });
    stream.on('data', (piece: Buffer) => {
      if (this.#over) return;
      try {
        this.#take(piece);
      } catch (error) {
        this.#end(error as Error);
        this.cancel();
      }
    });
    stream.on('error', (error) => this.#end(error));
    stream.on('end', () => this.#end(null));
    stream.on('close', () => this.#end(new Error('the connection was lost')));
    stream.end(Buffer.concat([prefixOf(request.byteLength), request]));
  }

  resume(): void {
    this.#stream.resume();
  }

  /** Ends the call at once: nothing more is written to the receiver's memory, and nothing reported to it. */
  cancel(): void {
    this.#over = true;
    this.#stream.close(http2.NGHTTP2_CANCEL);
  }

  #take(piece: Buffer): void {
    for (let at = 0; at < piece.length && !this.#over; ) {
      at = this.#arriving.take(piece, at);
      // A message may have no bytes.
      while (this.#arriving.complete) this.#arriving.next(this.#whatFollows(this.#arriving.bytes));
    }
  }

  /** What arrives after a head, or after the bytes of a message. */
  #whatFollows(arrived: Uint8Array): Uint8Array {
    if (arrived === this.#head) {
      const bytes = this.#head.readUInt32BE(1) - CHECKSUM;
      if (this.#head[0] !== 0) throw new Error('a compressed message');
      if (bytes < 0) throw new Error('a message without a checksum');
      return this.#receiver.open(bytes);
    }
    if (native().checksum(arrived) !== this.#head.readBigUInt64LE(PREFIX)) {
      const size = arrived.byteLength.toLocaleString('en');
      throw new Error(`the checksum of a message of ${size} bytes is wrong: bits were flipped on the way`);
    }
    if (!this.#receiver.close()) this.#stream.pause();
    return this.#head;
  }

  #end(error: Error | null): void {
    if (this.#over) return;
    this.#over = true;
    const code = this.#status?.['grpc-status'];
    if (code !== undefined && code !== String(status.OK)) {
      const details = decoded(String(this.#status?.['grpc-message'] ?? `status ${code}`));
      this.#receiver.ended(new StatusError(Number(code), details));
    } else {
      this.#receiver.ended(error ?? (code === undefined ? new Error('the stream ended early') : null));
    }
  }
}

/** A connection to a StreamServer. */
export type StreamClient = Awaited<ReturnType<typeof connectStreams>>;

/**
 * Connects to a StreamServer; rejects if the server does not answer within `timeoutMs`, which may be long, because
 * its event loop may be busy, or when `abandoned` is aborted.
 */
export async function connectStreams(
  link: Link,
  path: string,
  timeoutMs: number,
  abandoned: AbortSignal | null = null,
) {
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = abandoned === null ? timeout : AbortSignal.any([timeout, abandoned]);
  const socket = await connectAdmitted(link, signal);
  const session = connect('http://localhost', {
    createConnection: () => socket,
    maxSessionMemory: SESSION_MEGABYTES,
    settings: { initialWindowSize: WINDOW, enablePush: false },
  });
  try {
    await once(session, 'remoteSettings', { signal });
  } catch (error) {
    session.destroy();
    throw error;
  }
  session.setLocalWindowSize(WINDOW);
  // Each call reports a lost connection itself.
  session.on('error', () => {});
  // Within a machine the kernel tells.
  const heard = link.proof === null ? null : watchConnection(session, { pings: PINGS });
  return {
    /**
     * Starts a call. The error for a lost connection is thrown here, because from Node.js 24 on request()
     * reports it only later, by an event.
     */
    pull(request: Uint8Array, receiver: Receiver): PulledCall {
      if (session.closed || session.destroyed) throw new Error('the connection was lost');
      const headers = { ':method': 'POST', ':path': path, 'content-type': CONTENT_TYPE, te: 'trailers' };
      const stream = session.request(headers);
      if (heard !== null) stream.on('data', heard);
      return new PulledCall(stream, request, receiver);
    },
    close: () => session.destroy(),
  };
}

/**
 * A server that others flood with connections may drop this one, too, so it is tried again, unless nobody answers or
 * listens, or somebody else does.
 */
async function connectAdmitted(link: Link, signal: AbortSignal): Promise<Socket> {
  for (;;) {
    try {
      return await connectLink(link, signal);
    } catch (error) {
      const isAlone =
        error instanceof Unreachable || (error as NodeJS.ErrnoException).code === 'ECONNREFUSED';
      const final = isAlone || error instanceof WrongPeer;
      if (final || signal.aborted) throw error;
      await sleep(RETRY_MS, null, { signal });
    }
  }
}
