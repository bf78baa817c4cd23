/** Connections to other processes of a run, within a machine or over a network. */
import { connect, type Socket } from 'node:net';
import { CallCredentials, ChannelCredentials } from '@grpc/grpc-js';
import { type Certified, type Identity, proveIdentity, WrongPeer } from '../security/identity.js';
import { socketAddress } from './address.js';
import { strangerAt } from './local.js';

/** How another process is reached. */
export interface Link {
  /** "host:port", or "unix-abstract:name" on this machine. */
  address: string;
  /** What the two prove to each other; null within the machine, where the kernel tells. */
  proof: { own: Certified; expected: Identity } | null;
}

/**
 * The system of the other machine answers within these attempts, 2 s in all, however busy the process is. All others wait
 * for a worker that cannot be reached, so it is short, and the packet that asks for a connection is sent more often than
 * by TCP, which waits a second before the next: with another attempt each time. Attempts are counted, and no clock is
 * read: a process that was paused has not listened meanwhile.
 */
const ATTEMPTS = 4;
const ATTEMPT_MS = 500;

/** The network, or the other machine, has not answered at all. */
export class Unreachable extends Error {}

/**
 * Connects; rejects unless the other side is who was expected: with WrongPeer if it is somebody else, and with
 * Unreachable if nothing comes from there.
 */
export async function connectLink({ address, proof }: Link, signal: AbortSignal): Promise<Socket> {
  const socket = await reach(address, signal);
  const abort = () => socket.destroy(signal.reason as Error);
  signal.addEventListener('abort', abort);
  try {
    signal.throwIfAborted();
    return await secure(socket, proof);
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** The first of several attempts that is answered, whatever the answer is. */
async function reach(address: string, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  const options = { ...socketAddress(address), noDelay: true };
  const attempts: Socket[] = [];
  return await new Promise((resolve, reject) => {
    let isOver = false;
    const end = (connected: Socket | null, why: Error | null = null) => {
      if (isOver) return;
      isOver = true;
      clearInterval(again);
      signal.removeEventListener('abort', abort);
      for (const socket of attempts) if (socket !== connected) socket.destroy();
      if (connected === null) reject(why);
      else resolve(connected.removeAllListeners('error'));
    };
    const attempt = () => {
      try {
        const socket = connect(options);
        attempts.push(socket);
        socket.once('connect', () => end(socket)).on('error', (error) => end(null, error));
      } catch (error) {
        end(null, error as Error);
      }
    };
    const abort = () => end(null, signal.reason as Error);
    const giveUp = () => end(null, new Unreachable(`no answer within ${(ATTEMPTS * ATTEMPT_MS) / 1000} s`));
    const again = setInterval(() => {
      if (attempts.length < ATTEMPTS) attempt();
      // Timers run before sockets are looked at, and immediates after: an answer that is there counts.
      else setImmediate(giveUp);
    }, ATTEMPT_MS);
    signal.addEventListener('abort', abort);
    attempt();
  });
}

/** The connection as it is used, after both sides know each other. */
async function secure(socket: Socket, proof: Link['proof']): Promise<Socket> {
  if (proof !== null) return await proveIdentity(socket, proof.own, proof.expected);
  const why = strangerAt(socket);
  if (why === null) return socket;
  socket.destroy();
  throw new WrongPeer(why);
}

type SecureConnector = ReturnType<ChannelCredentials['_createSecureConnector']>;

/** Credentials of a gRPC channel over such a connection. */
export class LinkCredentials extends ChannelCredentials {
  readonly #proof: Link['proof'];
  readonly #onStranger: (why: string) => void;

  /** @param onStranger Called when somebody else answers; other failures are tried again. */
  constructor(proof: Link['proof'], onStranger: (why: string) => void) {
    super();
    this.#proof = proof;
    this.#onStranger = onStranger;
  }

  override _isSecure(): boolean {
    return this.#proof !== null;
  }

  override _equals(other: ChannelCredentials): boolean {
    return other === this;
  }

  override _createSecureConnector(
    ...[, , callCredentials]: Parameters<ChannelCredentials['_createSecureConnector']>
  ): SecureConnector {
    return {
      connect: async (socket) => {
        try {
          return { socket: await secure(socket, this.#proof), secure: this.#proof !== null };
        } catch (error) {
          if (error instanceof WrongPeer) this.#onStranger(error.message);
          throw error;
        }
      },
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => callCredentials ?? CallCredentials.createEmpty(),
      destroy: () => {},
    };
  }
}
