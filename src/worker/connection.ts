/** One connection of a worker with the coordinator: it joins with its first message, and ends once. */
import { type ClientDuplexStream, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { OrchestratorError } from '../errors.js';
import { channelTarget } from '../rpc/address.js';
import { type Link, LinkCredentials } from '../rpc/links.js';
import {
  Coordinator,
  type CoordinatorClient,
  type CoordinatorMessage,
  type FromWorker,
} from '../rpc/proto.js';
import { controlOptions } from '../rpc/transport.js';

/**
 * The coordinator learns from heartbeats that a worker is gone. A worker learns from pings that the
 * coordinator's machine is gone; a coordinator that is only paused for a while answers later.
 */
const KEEPALIVE_MS = 60_000;
const channelOptions = {
  ...controlOptions,
  'grpc.keepalive_time_ms': KEEPALIVE_MS,
  'grpc.keepalive_timeout_ms': KEEPALIVE_MS,
  // A coordinator that is flooded with connections may drop this one, too.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
};

/** What the coordinator answers to a worker that it does not take. */
const REFUSALS: ReadonlySet<status> = new Set([
  status.FAILED_PRECONDITION,
  status.INVALID_ARGUMENT,
  status.ALREADY_EXISTS,
  status.PERMISSION_DENIED,
]);

/** grpc-js ends a session with this where a message is larger than it may be: it would be the same again. */
const TOO_LARGE = /message (with a size )?larger than/;

interface ConnectionOptions {
  link: Link;
  /** Its first message; it is sent as soon as there is a connection. */
  join: FromWorker;
  onMessage: (message: CoordinatorMessage) => void;
  /**
   * Called once, unless the worker closes it.
   *
   * @param mayReturn Whether the coordinator may come back; otherwise it does not want this worker.
   */
  onLost: (why: OrchestratorError, mayReturn: boolean) => void;
}

export class Connection {
  readonly #address: string;
  readonly #client: CoordinatorClient;
  readonly #stream: ClientDuplexStream<FromWorker, CoordinatorMessage>;
  readonly #onLost: ConnectionOptions['onLost'];
  #open = true;

  constructor({ link: { address, proof }, join, onMessage, onLost }: ConnectionOptions) {
    this.#address = address;
    this.#onLost = onLost;
    const stranger = (why: string) =>
      this.#lost(
        new OrchestratorError('ERR_TOKEN', `Whoever listens at ${address} is not the coordinator: ${why}`),
        false,
      );
    this.#client = new Coordinator(
      channelTarget(address),
      new LinkCredentials(proof, stranger),
      channelOptions,
    );
    this.#stream = this.#client.Session(new Metadata({ waitForReady: true }));
    this.#stream.on('data', (message: CoordinatorMessage) => {
      if (this.#open) onMessage(message);
    });
    this.#stream.on('error', (error: ServiceError) => this.#ended(error));
    this.#stream.on('end', () => this.#ended(null));
    this.send(join);
  }

  send(message: FromWorker): void {
    if (this.#open && this.#stream.writable) this.#stream.write(message);
  }

  close(): void {
    this.#open = false;
    this.#stream.end();
    this.#client.close();
  }

  /** Ends it without waiting for what was sent. */
  abort(): void {
    this.#open = false;
    this.#stream.cancel();
    this.#client.close();
  }

  #ended(error: ServiceError | null): void {
    if (error !== null && REFUSALS.has(error.code)) {
      const message = `The coordinator at ${this.#address} refused this worker: ${error.details}`;
      this.#lost(new OrchestratorError('ERR_PROTOCOL', message), false);
      return;
    }
    if (error !== null && TOO_LARGE.test(error.details)) {
      const message = `A message between this worker and the coordinator at ${this.#address} is too large: ${error.details}`;
      this.#lost(new OrchestratorError('ERR_PROTOCOL', message), false);
      return;
    }
    if (error?.code === status.ABORTED) {
      const message = `The run goes on without this worker: ${error.details}`;
      this.#lost(new OrchestratorError('ERR_WORKER_LOST', message), false);
      return;
    }
    const details = error === null ? 'it ended the session' : error.details;
    const message = `Lost the coordinator at ${this.#address}: ${details}`;
    this.#lost(new OrchestratorError('ERR_COORDINATOR_LOST', message), true);
  }

  #lost(why: OrchestratorError, mayReturn: boolean): void {
    if (!this.#open) return;
    this.abort();
    this.#onLost(why, mayReturn);
  }
}
