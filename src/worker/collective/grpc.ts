/**
 * Gradients worker to worker over gRPC, pulled by the receiver. Each worker opens two streams a step to every peer: PART
 * brings the peer's local sums of the slices that this worker owns, RESULT the global sums of those that the peer owns.
 * Both are opened before backward starts and flow bucket by bucket while it runs. Tensor bytes pass through identity
 * serializers; see docs/distributed.md for why.
 */
import {
  Client,
  type ClientReadableStream,
  type Server,
  type ServerWritableStream,
  type ServiceError,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { Peer, type PullRequest } from '../../cluster/proto.js';
import { clientCredentials, dataOptions } from '../../cluster/transport.js';
import { OrchestratorError } from '../../errors.js';
import type { Collective, LocalGradient } from './collective.js';
import { type ExchangePlan, StepExchange } from './exchange.js';

type Kind = 'PART' | 'RESULT';

const identity = (bytes: Buffer): Buffer => bytes;
const pull = { ...Peer.service.Pull, responseSerialize: identity, responseDeserialize: identity };
/** The Peer service, with tensor bytes as they are. */
const service = { Pull: pull };
type PullCall = ServerWritableStream<PullRequest, Buffer>;

const CONNECT_TIMEOUT_MS = 10_000;

/** The serving side. Created before the first generation, so that its address can be told when joining. */
export class PeerServer {
  #serve: ((request: PullRequest, call: PullCall) => Promise<void>) | null = null;

  constructor(server: Server) {
    server.addService(service, {
      Pull: (call: PullCall) => {
        const serve = this.#serve;
        if (serve === null) return refuse(call, status.FAILED_PRECONDITION, 'no generation is formed');
        serve(call.request, call).catch((error: Error) => refuse(call, status.ABORTED, error.message));
      },
    });
  }

  attach(serve: ((request: PullRequest, call: PullCall) => Promise<void>) | null): void {
    this.#serve = serve;
  }
}

export interface GrpcCollectiveOptions {
  plan: ExchangePlan;
  generation: number;
  token: string;
  server: PeerServer;
  /** Data addresses by rank; this worker's own is not used. */
  addresses: readonly string[];
}

export class GrpcCollective implements Collective {
  readonly #options: GrpcCollectiveOptions;
  readonly #clients: (Client | null)[];
  #current: StepExchange | null = null;
  #calls: ClientReadableStream<Buffer>[] = [];
  #waiting: { step: number; resolve: (exchange: StepExchange) => void; reject: (error: Error) => void }[] =
    [];

  private constructor(options: GrpcCollectiveOptions) {
    this.#options = options;
    this.#clients = options.addresses.map((address, rank) =>
      rank === options.plan.rank ? null : new Client(address, clientCredentials(), dataOptions),
    );
  }

  /** Resolves when all peers' data addresses answer. */
  static async connect(options: GrpcCollectiveOptions): Promise<GrpcCollective> {
    const collective = new GrpcCollective(options);
    options.server.attach((request, call) => collective.#serve(request, call));
    try {
      await Promise.all(collective.#clients.map((client, rank) => client && reach(client, rank, options)));
    } catch (error) {
      collective.close();
      throw error;
    }
    return collective;
  }

  begin(step: number, local: () => LocalGradient): void {
    const exchange = new StepExchange(this.#options.plan, step, local);
    // A failure between two waits must not end the process as an unhandled rejection; finish() reports it.
    this.#current = exchange;
    this.#calls = this.#clients.flatMap((client, rank) =>
      client === null
        ? []
        : [this.#pull(client, rank, 'PART', exchange), this.#pull(client, rank, 'RESULT', exchange)],
    );
    const ready = this.#waiting.filter((waiting) => waiting.step === step);
    this.#waiting = this.#waiting.filter((waiting) => waiting.step !== step);
    for (const waiting of ready) waiting.resolve(exchange);
  }

  announce(bucket: number): void {
    this.#exchange().announce(bucket);
  }

  async finish(): Promise<{ bytes: number }> {
    const exchange = this.#exchange();
    await exchange.finished();
    return { bytes: exchange.bytesReceived };
  }

  close(): void {
    this.#options.server.attach(null);
    for (const call of this.#calls) call.cancel();
    for (const client of this.#clients) client?.close();
    const error = new OrchestratorError('ERR_EXCHANGE', 'The exchange was closed');
    this.#current?.fail(error);
    for (const waiting of this.#waiting) waiting.reject(error);
    this.#waiting = [];
  }

  #exchange(): StepExchange {
    if (this.#current === null) throw new OrchestratorError('ERR_INTERNAL', 'no exchange has begun');
    return this.#current;
  }

  /** Receives one stream of one peer. */
  #pull(client: Client, rank: number, kind: Kind, exchange: StepExchange): ClientReadableStream<Buffer> {
    const { generation, token, plan } = this.#options;
    const request = { generation, step: exchange.step, kind, rank: plan.rank, token };
    const call = client.makeServerStreamRequest(pull.path, pull.requestSerialize, identity, request);
    const fail = (error: Error) => {
      call.cancel();
      exchange.fail(error);
    };
    call.on('data', (bytes: Buffer) => {
      try {
        if (kind === 'RESULT') exchange.receiveResult(rank, bytes);
        else if (!exchange.receivePart(rank, bytes)) pause(call, () => exchange.mayResume(rank), exchange);
      } catch (error) {
        fail(error as Error);
      }
    });
    call.on('end', () => {
      if (!exchange.complete(rank, kind)) fail(broken(rank, exchange.step, 'the stream ended early'));
    });
    call.on('error', (error: ServiceError) => {
      if (!exchange.complete(rank, kind)) exchange.fail(broken(rank, exchange.step, error.details, error));
    });
    return call;
  }

  /** Answers one Pull of a peer. */
  async #serve(request: PullRequest, call: PullCall): Promise<void> {
    const { generation, token, plan } = this.#options;
    if (request.token !== token) return refuse(call, status.UNAUTHENTICATED, 'wrong data token');
    if (request.generation !== generation) {
      return refuse(
        call,
        status.FAILED_PRECONDITION,
        `generation ${request.generation} is not ${generation}`,
      );
    }
    if (request.rank >= plan.slots.length || request.rank === plan.rank) {
      return refuse(call, status.INVALID_ARGUMENT, `rank ${request.rank} is no peer`);
    }
    const exchange = await this.#at(request.step);
    const chunks = request.kind === 'PART' ? exchange.partsFor(request.rank) : exchange.results();
    for await (const chunk of chunks) {
      if (call.cancelled) return;
      // grpc-js copies the bytes while it frames them, before the memory can change: that needs the next step's commit.
      if (!call.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))) await drained(call);
    }
    call.end();
  }

  /** The exchange of this step; a peer may be one step ahead. */
  #at(step: number): Promise<StepExchange> {
    const current = this.#current;
    if (current !== null && current.step === step) return Promise.resolve(current);
    if (current !== null && step !== current.step + 1) {
      return Promise.reject(new Error(`step ${step} was asked for at step ${current.step}`));
    }
    return new Promise((resolve, reject) => this.#waiting.push({ step, resolve, reject }));
  }
}

async function reach(client: Client, rank: number, options: GrpcCollectiveOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    client.waitForReady(Date.now() + CONNECT_TIMEOUT_MS, (error) => {
      if (error === undefined || error === null) return resolve();
      const address = options.addresses[rank];
      reject(
        new OrchestratorError('ERR_EXCHANGE', `Cannot reach rank ${rank} at ${address}: ${error.message}`),
      );
    });
  });
}

/** Stops reading until `ready`. */
function pause(call: ClientReadableStream<Buffer>, ready: () => boolean, exchange: StepExchange): void {
  call.pause();
  const wait = async () => {
    while (!ready()) await exchange.progress();
    call.resume();
  };
  wait().catch(() => call.cancel());
}

function drained(call: PullCall): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      call.off('drain', done);
      call.off('cancelled', done);
      call.off('close', done);
      resolve();
    };
    call.on('drain', done);
    call.on('cancelled', done);
    call.on('close', done);
  });
}

function refuse(call: PullCall, code: status, details: string): void {
  call.emit('error', { code, details } as Parameters<sendUnaryData<never>>[0]);
}

function broken(rank: number, step: number, details: string, cause?: Error): OrchestratorError {
  const message = `The exchange with rank ${rank} broke at step ${step}: ${details}`;
  return new OrchestratorError('ERR_EXCHANGE', message, cause === undefined ? {} : { cause });
}
