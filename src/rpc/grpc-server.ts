/** The serving side of gRPC for bulk bytes; see framing.ts. */
import { once } from 'node:events';
import {
  constants as http2,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import { status } from '@grpc/grpc-js';
import type { Identity } from '../security/identity.js';
import { printable } from '../text/printable.js';
import { CONTENT_TYPE, headOf, PREFIX, SESSION_MEGABYTES } from './framing.js';
import { Listener, type NetworkSocket } from './listener.js';
import { watchConnection } from './watch-connection.js';

const MAX_REQUEST = 4_096;
/** Longest text of a status. Some of it comes from the request, and it must fit into a header. */
const MAX_DETAILS = 1_024;
/** Time limit for a request, which is sent in one piece. */
const REQUEST_MS = 5_000;
/** Messages queued per stream, so that the socket always has data to send. */
const QUEUED = 4;
/**
 * A client on a network that leaves so many pings unanswered, one a second, is gone. The server waits longer than a
 * client does (grpc-client.ts): a transfer to a coordinator that is stopped for a few seconds then goes on.
 */
const PINGS = 10;
/** Concurrent calls of a connection: two for each of two steps, and as many that are ending. */
const MAX_CALLS = 8;

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
    // Within a machine the kernel tells.
    if (peer !== null) watchConnection(session, { pings: PINGS });
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
