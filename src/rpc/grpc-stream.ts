/**
 * gRPC for bulk bytes: one server-streaming method, implemented on node:http2. It is wire-compatible with
 * grpc-js (a test connects the two), but does not copy bytes into messages: the sender writes views of its
 * memory, and the receiver stores every piece at its destination as it arrives. This halves the processor
 * time, and without a megabyte of garbage per message the event loop has no long garbage collections
 * (`npm run bench -- --only exchange`).
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  type ClientHttp2Stream,
  connect,
  createServer,
  type Http2Server,
  constants as http2,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, connect as connectSocket, type NetConnectOpts } from 'node:net';
import { status } from '@grpc/grpc-js';
import { listenFailure, splitAddress, splitLoopback } from './transport.js';

/**
 * HTTP/2 window of the receiver, per stream and connection. With the default window of 64 KiB a stream drops
 * to 4 MB/s at a round-trip time of 10 ms. A grpc-js server ignores this option, so bulk data is pulled.
 */
const WINDOW = 8 * 1024 * 1024;
const MAX_REQUEST = 4_096;
const PREFIX = 5;
/** Messages queued per stream, so that the socket always has data to send. */
const QUEUED = 4;
/** Megabytes that a session may queue. Queued messages are views, so this allocates nothing. */
const SESSION_MEGABYTES = 4_096;
const CONTENT_TYPE = 'application/grpc+proto';

/** What precedes a message: that it is not compressed, and its length. */
function prefixOf(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(PREFIX);
  prefix.writeUInt32BE(message.byteLength, 1);
  return prefix;
}

/** The serving side of one call. */
export class ServedCall {
  readonly #stream: ServerHttp2Stream;
  readonly #writes: Promise<void>[] = [];
  #code = status.OK as number;
  #details = '';

  constructor(stream: ServerHttp2Stream) {
    this.#stream = stream;
    stream.respond({ ':status': 200, 'content-type': CONTENT_TYPE }, { waitForTrailers: true });
    stream.on('wantTrailers', () =>
      stream.sendTrailers({
        'grpc-status': String(this.#code),
        'grpc-message': encodeURIComponent(this.#details),
      }),
    );
    // A lost peer is reported elsewhere; the caller checks `open`.
    stream.on('error', () => {});
  }

  get open(): boolean {
    return !this.#stream.destroyed && !this.#stream.closed;
  }

  /** Queues one message; resolves when another may follow. The bytes must not change until delivered. */
  async write(bytes: Uint8Array): Promise<void> {
    const stream = this.#stream;
    stream.cork();
    stream.write(prefixOf(bytes));
    this.#writes.push(new Promise((resolve) => stream.write(bytes, () => resolve())));
    stream.uncork();
    if (this.#writes.length >= QUEUED) await this.#writes.shift();
  }

  end(code: status = status.OK, details = ''): void {
    this.#code = code;
    this.#details = details;
    if (this.open) this.#stream.end();
  }
}

/** Serves one server-streaming method. */
export class StreamServer {
  readonly #server: Http2Server = createServer({ maxSessionMemory: SESSION_MEGABYTES });
  readonly #sessions = new Set<{ destroy(): void }>();

  /** @param path "/package.Service/Method" */
  constructor(path: string, serve: (request: Buffer, call: ServedCall) => void) {
    this.#server.on('session', (session) => {
      this.#sessions.add(session);
      session.on('close', () => this.#sessions.delete(session));
      session.on('error', () => {});
    });
    this.#server.on('stream', (stream, headers) => {
      const call = new ServedCall(stream);
      if (headers[':path'] !== path || headers[':method'] !== 'POST') {
        call.end(status.UNIMPLEMENTED, `no method ${headers[':path']}`);
        return;
      }
      readRequest(stream)
        .then((request) => serve(request, call))
        .catch((error: Error) => call.end(status.INVALID_ARGUMENT, error.message));
    });
  }

  /** Binds to "host:port" or "unix-abstract:name" and returns the bound address. */
  async listen(address: string): Promise<string> {
    const options = socketOptions(address);
    const listening = once(this.#server, 'listening');
    this.#server.listen(options);
    try {
      await listening;
    } catch (error) {
      throw listenFailure(address, error as Error);
    }
    const bound = this.#server.address();
    return 'path' in options ? address : `${splitAddress(address).host}:${(bound as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    for (const session of this.#sessions) session.destroy();
  }
}

const ABSTRACT = 'unix-abstract:';

/**
 * A new address on this machine. On Linux it is a socket in the abstract namespace, which takes a third less
 * processor time than TCP on loopback and leaves no file. The token in each request keeps other users out.
 */
export function localAddress(): string {
  if (process.platform !== 'linux') return '127.0.0.1:0';
  return `${ABSTRACT}orchestrator-${randomBytes(12).toString('hex')}`;
}

/** Socket options for an address in gRPC's notation. Refuses addresses of other machines. */
function socketOptions(address: string): { path: string } | { host: string; port: number } {
  if (address.startsWith(ABSTRACT)) return { path: `\0${address.slice(ABSTRACT.length)}` };
  const { host, port } = splitLoopback(address);
  return { host: host.replace(/^\[|\]$/g, ''), port };
}

/** Reads even a request that is too long to its end, because the error response needs the stream. */
async function readRequest(stream: ServerHttp2Stream): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  stream.on('data', (piece: Buffer) => {
    length += piece.length;
    if (length <= MAX_REQUEST) pieces.push(piece);
  });
  await once(stream, 'end');
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

/** The receiving side of one call. */
export class PulledCall {
  readonly #stream: ClientHttp2Stream;
  readonly #receiver: Receiver;
  readonly #prefix = Buffer.alloc(PREFIX);
  #prefixLength = 0;
  #target: Uint8Array | null = null;
  #filled = 0;
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
      try {
        this.#take(piece);
      } catch (error) {
        this.cancel();
        this.#end(error as Error);
      }
    });
    stream.on('error', (error) => this.#end(error));
    stream.on('end', () => this.#end(null));
    stream.on('close', () => this.#end(new Error('the connection was lost')));
    stream.end(Buffer.concat([prefixOf(request), request]));
  }

  resume(): void {
    this.#stream.resume();
  }

  cancel(): void {
    this.#stream.close(http2.NGHTTP2_CANCEL);
  }

  #take(piece: Buffer): void {
    for (let at = 0; at < piece.length; ) {
      if (this.#target === null) {
        const some = Math.min(PREFIX - this.#prefixLength, piece.length - at);
        piece.copy(this.#prefix, this.#prefixLength, at, at + some);
        this.#prefixLength += some;
        at += some;
        if (this.#prefixLength < PREFIX) return;
        if (this.#prefix[0] !== 0) throw new Error('a compressed message');
        this.#target = this.#receiver.open(this.#prefix.readUInt32BE(1));
        this.#filled = 0;
      }
      const some = Math.min(this.#target.byteLength - this.#filled, piece.length - at);
      this.#target.set(
        at === 0 && some === piece.length ? piece : piece.subarray(at, at + some),
        this.#filled,
      );
      this.#filled += some;
      at += some;
      if (this.#filled < this.#target.byteLength) return;
      this.#target = null;
      this.#prefixLength = 0;
      if (!this.#receiver.close()) this.#stream.pause();
    }
  }

  #end(error: Error | null): void {
    if (this.#over) return;
    this.#over = true;
    const code = this.#status?.['grpc-status'];
    if (code !== undefined && code !== String(status.OK)) {
      this.#receiver.ended(
        new Error(decodeURIComponent(String(this.#status?.['grpc-message'] ?? `status ${code}`))),
      );
    } else {
      this.#receiver.ended(error ?? (code === undefined ? new Error('the stream ended early') : null));
    }
  }
}

/** A connection to a StreamServer. */
export type StreamClient = Awaited<ReturnType<typeof connectStreams>>;

/** Connects to a StreamServer; rejects if it does not answer within `timeoutMs`. */
export async function connectStreams(address: string, path: string, timeoutMs: number) {
  const options: NetConnectOpts = socketOptions(address);
  const session = connect('http://localhost', {
    createConnection: () => connectSocket(options),
    maxSessionMemory: SESSION_MEGABYTES,
    settings: { initialWindowSize: WINDOW, enablePush: false },
  });
  try {
    await once(session, 'remoteSettings', { signal: AbortSignal.timeout(timeoutMs) });
  } catch (error) {
    session.destroy();
    throw error;
  }
  session.setLocalWindowSize(WINDOW);
  // Each call reports a lost connection itself.
  session.on('error', () => {});
  return {
    /**
     * Starts a call. The error for a lost connection is thrown here, because from Node.js 24 on request()
     * reports it only later, by an event.
     */
    pull(request: Uint8Array, receiver: Receiver): PulledCall {
      if (session.closed || session.destroyed) throw new Error('the connection was lost');
      const headers = { ':method': 'POST', ':path': path, 'content-type': CONTENT_TYPE, te: 'trailers' };
      return new PulledCall(session.request(headers), request, receiver);
    },
    close: () => session.destroy(),
  };
}
