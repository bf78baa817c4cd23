/**
 * The listening sockets of a process of a run: always one within the machine, and one on a network where the run
 * has more machines. HTTP/2 and gRPC get only connections whose other end is known, by the kernel or by its
 * certificate, so they never parse a byte of anybody else. How many may wait and for how long is limited, so that
 * strangers cost a run nothing.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { OrchestratorError } from '../errors.js';
import { ABSTRACT } from '../security/credential.js';
import { ENROLMENT_PROTOCOL, type Enrolments } from '../security/enrolment.js';
import { type Certified, type Identity, MEMBER_PROTOCOL, peerOf, tlsOptions } from '../security/identity.js';
import { listenFailure, socketAddress } from './address.js';
import { localAddress, strangerAt } from './local.js';
import { NewestSockets } from './newest-sockets.js';
import { limitNotes } from './notes.js';

/** Time for the handshake of TLS. */
const HANDSHAKE_MS = 5_000;
/** Connections that may wait beside those of the run. */
const MAX_WAITING = 16;

interface ListenerOptions {
  /** Gets every connection of a member; the peer is null for one within the machine. */
  admit: (socket: Socket, peer: Identity | null) => void;
  /** Gets what was refused and why, at a limited rate. */
  onRefused: (message: string) => void;
}

/** How a process listens on a network. */
export interface NetworkSocket {
  /** host:port to bind to; port 0 takes any free one. */
  listen: string;
  own: Certified;
  /** Whose connections are admitted. */
  roles: readonly Identity['role'][];
  /** Where processes enrol; null: they do so elsewhere. */
  enrolments: Enrolments | null;
}

export class Listener {
  readonly #options: ListenerOptions;
  readonly #servers: Server[] = [];
  readonly #waiting = new NewestSockets(MAX_WAITING);
  readonly #refusals: ReturnType<typeof limitNotes>;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#refusals = limitNotes(options.onRefused);
  }

  /** Reports something that was refused later, at the same limited rate. */
  get refused(): (message: string) => void {
    return this.#refusals.note;
  }

  /** Says how many connections of the run may come at the same time. */
  expect(connections: number): void {
    this.#waiting.limit = MAX_WAITING + connections;
  }

  /**
   * Listens within the machine and returns the address.
   *
   * @param former An address of this machine that is taken if nobody else has it; null: any.
   */
  async listenLocally(former: string | null = null): Promise<string> {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      const why = strangerAt(socket);
      if (why === null) return this.#options.admit(socket, null);
      this.refused(`a connection within this machine: ${why}`);
      socket.destroy();
    });
    if (former?.startsWith(ABSTRACT)) {
      try {
        await this.#bind(server, former);
        return former;
      } catch (error) {
        if (!(error instanceof OrchestratorError && error.code === 'ERR_PORT')) throw error;
      }
    }
    const address = localAddress();
    await this.#bind(server, address);
    return address;
  }

  /** Listens on a network and returns the port. */
  async listen({ listen, own, roles, enrolments }: NetworkSocket): Promise<number> {
    const server = createTlsServer({
      ...tlsOptions(own),
      requestCert: true,
      // Who has no certificate may still enrol.
      rejectUnauthorized: false,
      ALPNProtocols: [MEMBER_PROTOCOL, ENROLMENT_PROTOCOL],
      noDelay: true,
    });
    /** Connections whose handshake is not over, by the address of the other side. */
    const accepted = new Map<string, Socket>();
    server.on('connection', (socket: Socket) => {
      const from = originOf(socket);
      accepted.set(from, socket);
      const timer = setTimeout(() => {
        if (!accepted.has(from)) return;
        this.refused(`a connection from ${from}: no handshake of TLS within ${HANDSHAKE_MS / 1000} s`);
        socket.destroy();
      }, HANDSHAKE_MS);
      socket.once('close', () => {
        clearTimeout(timer);
        accepted.delete(from);
      });
      if (this.#waiting.add(socket)) {
        this.refused(`a connection: more than ${this.#waiting.limit} waited for the handshake of TLS`);
      }
    });
    server.on('tlsClientError', (error: Error & { reason?: string }, socket) => {
      // One that has no address any more was refused already, or has left by itself.
      if (socket.remotePort !== undefined) {
        const why = error.reason ?? error.message;
        this.refused(`a connection from ${originOf(socket)}: no TLS of this run (${why})`);
      }
      socket.destroy();
    });
    server.on('secureConnection', (socket) => {
      socket.on('error', () => {});
      const from = originOf(socket);
      const raw = accepted.get(from);
      accepted.delete(from);
      const refuse = (why: string) => {
        this.refused(`a connection from ${from}: ${why}`);
        socket.destroy();
      };
      if (socket.alpnProtocol === ENROLMENT_PROTOCOL) {
        if (enrolments === null) refuse('nobody enrols here');
        else
          void enrolments
            .answer(socket)
            .then((why) => why !== null && this.refused(`a connection from ${from}: ${why}`));
        return;
      }
      const peer = peerOf(socket);
      if (peer === null || peer.run !== own.identity.run) return refuse('it has no certificate of this run');
      if (!roles.includes(peer.role)) return refuse(`its certificate is for a ${peer.role}`);
      if (raw !== undefined) this.#waiting.delete(raw);
      this.#options.admit(socket, peer);
    });
    await this.#bind(server, listen);
    return (server.address() as AddressInfo).port;
  }

  /**
   * Accepts no more connections and ends those that wait. Resolves when the admitted ones have ended as well.
   */
  async close(): Promise<void> {
    const closed = this.#servers.map(
      (server) => new Promise<void>((resolve) => server.close(() => resolve())),
    );
    this.#waiting.destroy();
    this.#refusals.flush();
    await Promise.all(closed);
  }

  async #bind(server: Server, address: string): Promise<void> {
    const listening = once(server, 'listening');
    server.listen(socketAddress(address));
    try {
      await listening;
    } catch (error) {
      throw listenFailure(address, error as Error);
    }
    this.#servers.push(server);
    // A connection that cannot be accepted, because file descriptors are short for example, ends nothing.
    server.on('error', (error) => this.refused(`a connection: ${error.message}`));
  }
}

function originOf({ remoteAddress, remotePort }: Socket | TLSSocket): string {
  return `${remoteAddress}:${remotePort}`;
}
