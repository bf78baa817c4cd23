/**
 * gRPC for bulk bytes: one server-streaming method, implemented on node:http2. It is wire-compatible with
 * grpc-js (a test connects the two), but does not copy bytes into messages: the sender writes views of its
 * memory, and the receiver stores every piece at its destination as it arrives. This halves the processor
 * time, and without a megabyte of garbage per message the event loop has no long garbage collections
 * (`npm run bench -- --only exchange`). Every message begins with a checksum of its bytes, because within a machine
 * there is no TLS that would notice a flipped bit.
 */
import { once } from 'node:events';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants as http2,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { native } from '../native/load.js';
import { type Identity, WrongPeer } from '../security/identity.js';
import { printable } from '../text/printable.js';
import { Arriving } from './arriving.js';
import { CHECKSUM, headOf, PREFIX, prefixOf } from './framing.js';
import { connectLink, type Link, Unreachable } from './links.js';
import { Listener, type NetworkSocket } from './listener.js';

/**
 * HTTP/2 window of the receiver, per stream and connection. With the default window of 64 KiB a stream drops
 * to 4 MB/s at a round-trip time of 10 ms. A grpc-js server ignores this option, so bulk data is pulled.
 */
const WINDOW = 8 * 1024 * 1024;
const MAX_REQUEST = 4_096;
/** Longest text of a status. Some of it comes from the request, and it must fit into a header. */
const MAX_DETAILS = 1_024;
/** Time limit for a request, which is sent in one piece. */
const REQUEST_MS = 5_000;
/** Messages queued per stream, so that the socket always has data to send. */
const QUEUED = 4;
/** Concurrent calls of a connection: two for each of two steps, and as many that are ending. */
const MAX_CALLS = 8;
/** Memory of a session. Queued messages are views, which take none. */
const SESSION_MEGABYTES = 64;
/** A connection over a network is asked so often whether it is alive, and given up after so many times in vain. */
const PING_MS = 1_000;
const PINGS = 3;
/** Time between attempts to connect. */
const RETRY_MS = 50;
const CONTENT_TYPE = 'application/grpc+proto';

/** The serving side of one call. */
export class ServedCall {
  /** Resolves when the call is over, with whether all of the answer was sent, with status OK. */
  readonly over: Promise<boolean>;
  readonly #stream: ServerHttp2Stream;
  readonly #writes: Promise<void>[] = [];
  readonly #unanswered = new Set<() => void>();
  #code = status.OK as number;
  #details = '';
  #ended = false;

  constructor(stream: ServerHttp2Stream) {
    this.#stream = stream;
    stream.respond({ ':status': 200, 'content-type': CONTENT_TYPE }, { waitForTrailers: true });
    stream.on('wantTrailers', () => {
      if (!this.open) return;
      stream.sendTrailers({
        'grpc-status': String(this.#code),
        'grpc-message': encodeURIComponent(this.#details),
      });
    });
    // A lost peer is reported elsewhere; the caller checks `open`.
    stream.on('error', () => {});
    this.over = new Promise((resolve) =>
      stream.once('close', () => {
        for (const resolve of this.#unanswered) resolve();
        const isSent = this.#ended && stream.writableFinished && stream.rstCode === http2.NGHTTP2_NO_ERROR;
        resolve(isSent && this.#code === status.OK);
      }),
    );
  }

  get open(): boolean {
    return !this.#stream.destroyed && !this.#stream.closed;
  }

  /** Queues one message; resolves when another may follow. The bytes must not change until delivered. */
  async write(bytes: Uint8Array): Promise<void> {
    const stream = this.#stream;
    stream.cork();
    stream.write(headOf(bytes));
    this.#writes.push(
      new Promise((resolve) => {
        // Where the connection ends, Node.js does not always say what has become of a write.
        this.#unanswered.add(resolve);
        stream.write(bytes, () => {
          this.#unanswered.delete(resolve);
          resolve();
        });
      }),
    );
    stream.uncork();
    if (this.#writes.length >= QUEUED) await this.#writes.shift();
  }

  /** Sends these arrays as messages, and ends the call. Their bytes must not change until delivered. */
  async send(arrays: Iterable<ArrayBufferView> | AsyncIterable<ArrayBufferView>): Promise<void> {
    for await (const { buffer, byteOffset, byteLength } of arrays) {
      if (!this.open) return;
      await this.write(new Uint8Array(buffer, byteOffset, byteLength));
    }
    this.end();
  }

  end(code: status = status.OK, details = ''): void {
    this.#ended = true;
    this.#code = code;
    // Half a character, which the cut may leave, cannot be encoded.
    this.#details = printable(details, MAX_DETAILS);
    if (this.open) this.#stream.end();
  }
}

interface StreamServerOptions {
  /** "/package.Service/Method" */
  path: string;
  /** @param peer Who asks; null: a process of this machine. */
  serve: (request: Buffer, call: ServedCall, peer: Identity | null) => void;
  /** Gets what was refused and why, at a limited rate. */
  onRefused: (message: string) => void;
}

/** Serves one server-streaming method. */
export class StreamServer {
  readonly #options: StreamServerOptions;
  readonly #listener: Listener;
  readonly #sessions = new Set<ServerHttp2Session>();

  constructor(options: StreamServerOptions) {
    this.#options = options;
    const { onRefused } = options;
    this.#listener = new Listener({ onRefused, admit: (socket, peer) => this.#admit(socket, peer) });
  }

  /** Says how many clients may connect at the same time. */
  expect(clients: number): void {
    this.#listener.expect(clients);
  }

  /** Listens within the machine and returns the address. */
  listenLocally(): Promise<string> {
    return this.#listener.listenLocally();
  }

  /** Listens on a network and returns the port. */
  listen(socket: NetworkSocket): Promise<number> {
    return this.#listener.listen(socket);
  }

  close(): void {
    void this.#listener.close();
    this.disconnect();
  }

  /** Ends all connections; clients may connect again. */
  disconnect(): void {
    for (const session of this.#sessions) session.destroy();
  }

  #admit(socket: Socket, peer: Identity | null): void {
    const session = performServerHandshake(socket, {
      maxSessionMemory: SESSION_MEGABYTES,
      settings: { maxConcurrentStreams: MAX_CALLS },
    });
    this.#sessions.add(session);
    session.on('close', () => this.#sessions.delete(session));
    session.on('error', () => {});
    // Node.js leaves streams as they are that have something to send when their connection ends.
    const streams = new Set<ServerHttp2Stream>();
    socket.once('close', () => {
      for (const stream of streams) stream.destroy();
    });
    session.on('stream', (stream, headers) => {
      streams.add(stream);
      stream.once('close', () => streams.delete(stream));
      void this.#call(stream, headers, peer);
    });
  }

  async #call(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, peer: Identity | null): Promise<void> {
    // The client may have cancelled the call already.
    if (stream.destroyed) return;
    const { path, serve } = this.#options;
    const call = new ServedCall(stream);
    if (headers[':path'] !== path || headers[':method'] !== 'POST') {
      call.end(status.UNIMPLEMENTED, `no method ${headers[':path']}`);
      return;
    }
    try {
      serve(await readRequest(stream), call, peer);
    } catch (error) {
      call.end(status.INVALID_ARGUMENT, (error as Error).message);
    }
  }
}

/** Reads even a request that is too long to its end, because the error response needs the stream. */
async function readRequest(stream: ServerHttp2Stream): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  stream.on('data', (piece: Buffer) => {
    length += piece.length;
    if (length <= MAX_REQUEST) pieces.push(piece);
  });
  await once(stream, 'end', { signal: AbortSignal.timeout(REQUEST_MS) });
  if (length > MAX_REQUEST) throw new RangeError(`a request of more than ${MAX_REQUEST} bytes`);
  const body = Buffer.concat(pieces);
  if (body.length < PREFIX || body[0] !== 0 || body.readUInt32BE(1) !== body.length - PREFIX) {
    throw new RangeError('a malformed request');
  }
  return body.subarray(PREFIX);
}

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
  const heard = link.proof === null ? null : watchConnection(session);
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
 * Ends a connection from which nothing comes any more, because the network has lost it without a word. Turns are
 * counted and not time, so that a pause of this process is not taken for one.
 *
 * @returns what is to be called when something has come.
 */
export function watchConnection(session: ClientHttp2Session, everyMs = PING_MS): () => void {
  let unanswered = 0;
  const heard = () => {
    unanswered = 0;
  };
  const timer = setInterval(() => {
    if (session.closed || session.destroyed) return;
    if (unanswered++ < PINGS) session.ping((error) => error ?? heard());
    else session.destroy(new Error(`it has not answered for ${(PINGS * everyMs) / 1000} s`));
  }, everyMs).unref();
  session.once('close', () => clearInterval(timer));
  return heard;
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
