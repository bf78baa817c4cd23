/** A worker's session with the coordinator: messages in the order of the protocol, and the end. */
import { type ClientDuplexStream, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { OrchestratorError } from '../errors.js';
import { faultOf } from '../fault.js';
import { channelTarget } from '../rpc/address.js';
import { type Link, LinkCredentials } from '../rpc/links.js';
import {
  Coordinator,
  type CoordinatorClient,
  type CoordinatorMessage,
  type Form,
  type FromWorker,
  type Welcome,
} from '../rpc/proto.js';
import { controlOptions } from '../rpc/transport.js';

const HEARTBEAT_MS = 250;
const CONNECT_MS = 30_000;
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
  status.ALREADY_EXISTS,
  status.PERMISSION_DENIED,
]);

type MessageKind = Exclude<NonNullable<CoordinatorMessage['message']>, 'form' | 'stop' | 'drain'>;

/** The coordinator ended the run, and has printed the reason. */
export class Stopped extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super('the coordinator ended the run');
    this.exitCode = exitCode;
  }
}

/** The next generation forms: what this one was doing is abandoned. */
export class Regrouped extends Error {
  constructor() {
    super('the next generation forms');
  }
}

/** Rejects with the reason when the signal is aborted. */
export function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    else signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}

export class CoordinatorSession {
  /** Slots of the validation in progress that are computed; the heartbeat tells the coordinator. */
  validated = 0;
  /** Rejects with Stopped or an error when the session ends. */
  readonly over: Promise<never>;
  readonly #address: string;
  readonly #client: CoordinatorClient;
  readonly #stream: ClientDuplexStream<FromWorker, CoordinatorMessage>;
  readonly #inbox: CoordinatorMessage[] = [];
  #wake = () => {};
  #draining = false;
  #ended = false;
  #end: (error: Error) => void = () => {};
  /** The generation in which this worker is; 0 before the first. */
  #generation = 0;
  /** The newest generation that it has heard of. */
  #newest = 0;
  #regrouping = new AbortController();
  #connecting: NodeJS.Timeout | undefined;
  #heartbeat: NodeJS.Timeout | undefined;

  constructor({ address, proof }: Link) {
    this.#address = address;
    const credentials = new LinkCredentials(proof, (why) => this.#close(this.#stranger(why)));
    this.#client = new Coordinator(channelTarget(address), credentials, channelOptions);
    this.over = new Promise((_, reject) => {
      this.#end = reject;
    });
    // Whoever waits for a message gets the error; without a waiter it is not an unhandled rejection.
    this.over.catch(() => {});
    this.#stream = this.#client.Session(new Metadata({ waitForReady: true }));
    this.#stream.on('data', (message: CoordinatorMessage) => this.#receive(message));
    this.#stream.on('error', (error: ServiceError) => this.#close(this.#lost(error)));
    this.#stream.on('end', () => this.#close(this.#lost(null)));
  }

  get generation(): number {
    return this.#generation;
  }

  /** Aborted with Regrouped as soon as a newer generation than this worker's forms, or with why the session ends. */
  get regrouped(): AbortSignal {
    return this.#regrouping.signal;
  }

  /** Whether the run was asked to stop: what can be repeated is abandoned. */
  get draining(): boolean {
    return this.#draining;
  }

  async join(join: NonNullable<FromWorker['join']>): Promise<Welcome> {
    this.#connecting = setTimeout(() => {
      const message = `No coordinator at ${this.#address}: nobody answered within ${CONNECT_MS / 1000} s`;
      this.#close(new OrchestratorError('ERR_COORDINATOR_LOST', message));
    }, CONNECT_MS);
    // It is sent as soon as there is a connection.
    this.send({ join });
    const welcome = await this.next('welcome');
    clearTimeout(this.#connecting);
    this.#heartbeat = setInterval(
      () => this.send({ heartbeat: { validated: this.validated } }),
      HEARTBEAT_MS,
    );
    return welcome;
  }

  send(message: FromWorker): void {
    if (this.#stream.writable) this.#stream.write({ generation: this.#generation, ...message });
  }

  /**
   * Reports an error to the coordinator, which ends the run if it is fatal, and otherwise goes on without this
   * worker.
   */
  fail(error: Error, fatal: boolean): void {
    const { code, message, hint } = faultOf(error);
    this.send({ failure: { code, message, hint: hint ?? '', fatal } });
  }

  /** Waits for the next generation and enters it. What is left of those before it is dropped. */
  async formation(): Promise<Form> {
    for (;;) {
      const last = this.#inbox.findLastIndex(({ form }) => form);
      if (last >= 0) {
        const { generation, form } = this.#inbox.splice(0, last + 1).at(-1)!;
        this.#generation = generation;
        this.#regrouping = new AbortController();
        return form!;
      }
      this.#inbox.length = 0;
      await this.#arrival();
    }
  }

  /**
   * The next message, which must be of this kind. Rejects with Regrouped if the next generation forms instead,
   * with Stopped at the end, or when the session was lost.
   */
  async next<K extends MessageKind>(kind: K): Promise<NonNullable<CoordinatorMessage[K]>> {
    while (this.#inbox.length === 0) await this.#arrival();
    if (this.#inbox[0]!.form) throw new Regrouped();
    const message = this.#inbox.shift()!;
    const body = message[kind];
    if (body) return body;
    throw new OrchestratorError(
      'ERR_PROTOCOL',
      `The coordinator sent ${message.message} where ${kind} was expected`,
    );
  }

  /** Resolves when a message arrives; rejects at the end. */
  async #arrival(): Promise<void> {
    if (this.#ended) await this.over;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  close(): void {
    this.#clearTimers();
    this.#stream.end();
    this.#client.close();
  }

  #receive(message: CoordinatorMessage): void {
    if (message.stop) {
      this.#close(new Stopped(message.stop.exitCode));
      return;
    }
    if (message.drain) {
      this.#draining = true;
      return;
    }
    // Generations only increase; an older message belongs to a generation that no longer exists.
    if (message.generation < this.#newest) return;
    this.#newest = message.generation;
    this.#inbox.push(message);
    this.#wake();
    if (message.form) this.#regrouping.abort(new Regrouped());
  }

  #clearTimers(): void {
    clearTimeout(this.#connecting);
    clearInterval(this.#heartbeat);
  }

  #close(error: Error): void {
    this.#clearTimers();
    this.#end(error);
    this.#ended = true;
    this.#wake();
    this.#regrouping.abort(error);
  }

  #stranger(why: string): OrchestratorError {
    return new OrchestratorError(
      'ERR_TOKEN',
      `Whoever listens at ${this.#address} is not the coordinator: ${why}`,
    );
  }

  #lost(error: ServiceError | null): OrchestratorError {
    if (error !== null && REFUSALS.has(error.code)) {
      return new OrchestratorError(
        'ERR_PROTOCOL',
        `The coordinator at ${this.#address} refused this worker: ${error.details}`,
      );
    }
    const details = error === null ? 'it ended the session' : error.details;
    return new OrchestratorError(
      'ERR_COORDINATOR_LOST',
      `Lost the coordinator at ${this.#address}: ${details}`,
    );
  }
}
