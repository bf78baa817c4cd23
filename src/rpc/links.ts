/** Connections to other processes of a run, within a machine or over a network. */
import { once } from 'node:events';
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
 * The system of the other machine answers within this time, however busy the process is. Four times the packet that
 * asks for a connection is sent in it.
 */
const REACH_MS = 10_000;

/** The network, or the other machine, has not answered at all. */
export class Unreachable extends Error {}

/**
 * Connects; rejects unless the other side is who was expected: with WrongPeer if it is somebody else, and with
 * Unreachable if nothing comes from there.
 */
export async function connectLink({ address, proof }: Link, signal: AbortSignal): Promise<Socket> {
  const socket = connect({ ...socketAddress(address), noDelay: true });
  const abort = () => socket.destroy(signal.reason as Error);
  signal.addEventListener('abort', abort);
  const unanswered = () => socket.destroy(new Unreachable(`no answer within ${REACH_MS / 1000} s`));
  const timer = setTimeout(unanswered, REACH_MS);
  try {
    signal.throwIfAborted();
    await once(socket, 'connect');
    clearTimeout(timer);
    return await secure(socket, proof);
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
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
