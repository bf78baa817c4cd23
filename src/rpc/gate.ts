/**
 * The gate before the sockets of a run. A connection must begin with the run's token; HTTP/2 and gRPC get
 * only those that did, so they never parse a byte of anybody else. What may be sent before, how many may wait and
 * for how long is limited, so that strangers cost a run nothing.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { NewestSockets } from './newest-sockets.js';
import { limitNotes } from './notes.js';
import { listenFailure, socketAddress, splitAddress } from './transport.js';

/** What every connection begins with, followed by the SHA-256 of the token and a line feed. */
const GREETING = Buffer.from('orchestrator ');
const ADMITTED = Buffer.from('ok\n');
/** Bytes that a connection may send without the token, most of them read and dropped after its refusal. */
const MAX_BYTES = 65_536;
/** Time to present the token, and time for a refused connection to read why. */
const DEADLINE_MS = 5_000;
/** Connections that may wait beside those of the run. */
const MAX_WAITING = 16;

const EXPLANATION =
  'This socket belongs to a run of orchestrator. It is for processes with the token of the run.\n';
/** What refused clients get: whether they speak HTTP or not, it can be read. */
const REFUSAL = [
  'HTTP/1.1 403 Forbidden',
  'connection: close',
  'content-type: text/plain',
  `content-length: ${EXPLANATION.length}`,
  '',
  EXPLANATION,
].join('\r\n');

/** The hash gives every token the same length, so that the comparison takes the same time for all. */
function greeting(token: string): Buffer {
  const digest = createHash('sha256').update(token).digest('hex');
  return Buffer.concat([GREETING, Buffer.from(`${digest}\n`)]);
}

interface GateOptions {
  token: string;
  /** Gets every connection that has presented the token. */
  admit: (socket: Socket) => void;
  /** Gets what was refused and why, at a limited rate. */
  onRefused: (message: string) => void;
}

export class Gate {
  readonly #options: GateOptions;
  readonly #greeting: Buffer;
  readonly #server = createServer({ noDelay: true }, (socket) => this.#accept(socket));
  readonly #waiting = new NewestSockets(MAX_WAITING);
  readonly #refusals: ReturnType<typeof limitNotes>;

  constructor(options: GateOptions) {
    this.#options = options;
    this.#greeting = greeting(options.token);
    this.#refusals = limitNotes(options.onRefused);
  }

  /** Reports something that was refused after the gate, at the same limited rate. */
  get refused(): (message: string) => void {
    return this.#refusals.note;
  }

  /** Says how many connections of the run may come at the same time. */
  expect(connections: number): void {
    this.#waiting.limit = MAX_WAITING + connections;
  }

  /** Binds to "host:port" or "unix-abstract:name" and returns the bound address. */
  async listen(address: string): Promise<string> {
    const options = socketAddress(address);
    const listening = once(this.#server, 'listening');
    this.#server.listen(options);
    try {
      await listening;
    } catch (error) {
      throw listenFailure(address, error as Error);
    }
    // A connection that cannot be accepted, because file descriptors are short for example, ends nothing.
    this.#server.on('error', (error) => this.refused(`a connection: ${error.message}`));
    if ('path' in options) return address;
    return `${splitAddress(address).host}:${(this.#server.address() as AddressInfo).port}`;
  }

  /**
   * Accepts no more connections and ends those that wait. Resolves when the admitted ones have ended as well.
   */
  close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#waiting.destroy();
    this.#refusals.flush();
    return closed;
  }

  #accept(socket: Socket): void {
    const { remoteAddress, remotePort } = socket;
    const from = remoteAddress === undefined ? 'this machine' : `${remoteAddress}:${remotePort}`;
    let received = Buffer.alloc(0);
    let bytes = 0;
    let refused = false;
    const refuse = (why: string) => {
      refused = true;
      this.refused(`a connection from ${from}: ${why}`);
      socket.end(REFUSAL);
    };
    const timer = setTimeout(() => {
      if (!refused) refuse(`no token within ${DEADLINE_MS / 1000} s`);
      socket.destroySoon();
    }, DEADLINE_MS);
    const take = (piece: Buffer) => {
      bytes += piece.length;
      if (refused) {
        // Until its end is read, closing would reset the connection, and the reason would be lost.
        if (bytes > MAX_BYTES) socket.destroy();
        return;
      }
      received = Buffer.concat([received, piece]);
      const verdict = judge(received, this.#greeting);
      if (verdict === 'admitted') admit();
      else if (verdict !== 'incomplete') refuse(verdict);
    };
    const admit = () => {
      clearTimeout(timer);
      socket.off('data', take);
      socket.pause();
      this.#waiting.delete(socket);
      socket.write(ADMITTED);
      this.#options.admit(socket);
    };
    socket.on('error', () => {});
    socket.on('close', () => clearTimeout(timer));
    socket.on('data', take);
    if (this.#waiting.add(socket)) {
      this.refused(`a connection: more than ${this.#waiting.limit} waited for the token`);
    }
  }
}

/** What these bytes are: the token, its beginning, or a reason to refuse them. */
function judge(received: Buffer, expected: Buffer): string {
  const known = received.subarray(0, GREETING.length);
  if (!known.equals(GREETING.subarray(0, known.length))) return 'it did not begin with the token';
  if (received.length < expected.length) return 'incomplete';
  // The sender waits for the answer, so nothing may follow.
  const same = received.length === expected.length && timingSafeEqual(received, expected);
  return same ? 'admitted' : 'wrong token';
}

/** The other side has refused the token. */
export class TokenRefused extends Error {}

/** Presents the token on a connection that has just been established; rejects unless it is admitted. */
export async function presentToken(socket: Socket, token: string): Promise<void> {
  socket.write(greeting(token));
  const aborted = new AbortController();
  const { signal } = aborted;
  const closed = once(socket, 'close', { signal }).then(() => {
    throw new Error('the connection was closed before the token was accepted');
  });
  closed.catch(() => {});
  try {
    // What follows the answer, HTTP/2's first frames, stays in the socket's buffer.
    let answer: Buffer | null = null;
    while (answer === null) {
      await Promise.race([once(socket, 'readable', { signal }), closed]);
      answer = socket.read(ADMITTED.length);
    }
    if (!answer.equals(ADMITTED)) throw new TokenRefused('the token was refused');
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    aborted.abort();
  }
}
