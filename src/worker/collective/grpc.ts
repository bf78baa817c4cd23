/**
 * Gradients worker to worker over gRPC, pulled by the receiver. Each worker opens two streams a step to every peer: PART
 * brings the peer's local sums of the slices that this worker owns, RESULT the global sums of those that the peer owns.
 * Both are opened before backward starts and flow bucket by bucket while it runs. Tensor bytes travel as they are, without
 * a copy on the way; see cluster/grpc-stream.ts.
 */
import { status } from '@grpc/grpc-js';
import { OrchestratorError } from '../../errors.js';
import {
  type PulledCall,
  type Receiver,
  type ServedCall,
  StreamClient,
  StreamServer,
} from '../../rpc/grpc-stream.js';
import { Peer, type PullRequest } from '../../rpc/proto.js';
import type { Collective, LocalGradient } from './collective.js';
import { type ExchangeLayout, StepExchange } from './exchange.js';

type Kind = 'PART' | 'RESULT';

const { path, requestSerialize, requestDeserialize } = Peer.service.Pull;
const CONNECT_TIMEOUT_MS = 10_000;

type Serve = (request: PullRequest, call: ServedCall) => Promise<void>;

/** The serving side. Created before the first generation, so that its address can be told when joining. */
export class PeerServer {
  readonly #server: StreamServer;
  #serve: Serve | null = null;

  constructor() {
    this.#server = new StreamServer(path, (bytes, call) => {
      if (this.#serve === null) {
        call.end(status.FAILED_PRECONDITION, 'no generation is formed');
        return;
      }
      this.#serve(requestDeserialize(bytes), call).catch((error: Error) =>
        call.end(status.ABORTED, error.message),
      );
    });
  }

  listen(address: string): Promise<string> {
    return this.#server.listen(address);
  }

  attach(serve: Serve | null): void {
    this.#serve = serve;
  }

  close(): void {
    this.#server.close();
  }
}

export interface GrpcCollectiveOptions {
  layout: ExchangeLayout;
  generation: number;
  token: string;
  server: PeerServer;
  /** Data addresses by rank; this worker's own is not used. */
  addresses: readonly string[];
}

interface Waiting {
  step: number;
  resolve: (exchange: StepExchange) => void;
  reject: (error: Error) => void;
}

export class GrpcCollective implements Collective {
  readonly #options: GrpcCollectiveOptions;
  readonly #clients: { rank: number; client: StreamClient }[] = [];
  #current: StepExchange | null = null;
  #calls: PulledCall[] = [];
  #waiting: Waiting[] = [];

  private constructor(options: GrpcCollectiveOptions) {
    this.#options = options;
  }

  /** Resolves when all peers' data addresses answer. */
  static async connect(options: GrpcCollectiveOptions): Promise<GrpcCollective> {
    const collective = new GrpcCollective(options);
    options.server.attach((request, call) => collective.#serve(request, call));
    const peers = options.addresses.map((address, rank) => ({ address, rank }));
    try {
      await Promise.all(
        peers.filter(({ rank }) => rank !== options.layout.rank).map((peer) => collective.#connect(peer)),
      );
    } catch (error) {
      collective.close();
      throw error;
    }
    return collective;
  }

  begin(step: number, local: () => LocalGradient): void {
    const exchange = new StepExchange(this.#options.layout, step, local);
    this.#current = exchange;
    this.#calls = this.#clients.flatMap(({ rank, client }) => [
      this.#pull(client, rank, 'PART', exchange),
      this.#pull(client, rank, 'RESULT', exchange),
    ]);
    const ready = this.#waiting.filter((waiting) => waiting.step === step);
    this.#waiting = this.#waiting.filter((waiting) => waiting.step !== step);
    for (const waiting of ready) waiting.resolve(exchange);
  }

  readonly announce = (bucket: number): void => this.#exchange().announce(bucket);

  async finish(): Promise<{ bytes: number }> {
    const exchange = this.#exchange();
    await exchange.finished();
    return { bytes: exchange.bytesReceived };
  }

  close(): void {
    this.#options.server.attach(null);
    for (const call of this.#calls) call.cancel();
    for (const { client } of this.#clients) client.close();
    const error = new OrchestratorError('ERR_EXCHANGE', 'The exchange was closed');
    this.#current?.fail(error);
    for (const waiting of this.#waiting) waiting.reject(error);
    this.#waiting = [];
  }

  #exchange(): StepExchange {
    if (this.#current === null) throw new OrchestratorError('ERR_INTERNAL', 'no exchange has begun');
    return this.#current;
  }

  async #connect({ address, rank }: { address: string; rank: number }): Promise<void> {
    try {
      const client = await StreamClient.connect(address, path, CONNECT_TIMEOUT_MS);
      this.#clients.push({ rank, client });
    } catch (cause) {
      const message = `Cannot reach rank ${rank} at ${address}: ${(cause as Error).message}`;
      throw new OrchestratorError('ERR_EXCHANGE', message, { cause });
    }
  }

  /** Receives one stream of one peer. Throws where the connection is gone already. */
  #pull(client: StreamClient, rank: number, kind: Kind, exchange: StepExchange): PulledCall {
    const { generation, token, layout } = this.#options;
    const { step } = exchange;
    const request = requestSerialize({ generation, step, kind, rank: layout.rank, token });
    const broke = (cause: Error | null) => {
      const details = cause === null ? 'the stream ended early' : cause.message;
      const message = `The exchange with rank ${rank} broke at step ${step}: ${details}`;
      return new OrchestratorError('ERR_EXCHANGE', message, cause === null ? {} : { cause });
    };
    const receiver: Receiver = {
      open: (bytes) => (kind === 'PART' ? exchange.openPart(rank, bytes) : exchange.openResult(rank, bytes)),
      close: () => {
        if (kind === 'RESULT') {
          exchange.closeResult(rank);
          return true;
        }
        const goOn = exchange.closePart(rank);
        if (!goOn) resumeLater(call, rank, exchange);
        return goOn;
      },
      ended: (cause) => {
        if (!exchange.complete(rank, kind)) exchange.fail(broke(cause));
      },
    };
    let call: PulledCall;
    try {
      call = client.pull(request, receiver);
    } catch (error) {
      throw broke(error as Error);
    }
    return call;
  }

  /** Answers one Pull of a peer. */
  async #serve(request: PullRequest, call: ServedCall): Promise<void> {
    const { generation, token, layout } = this.#options;
    if (request.token !== token) return call.end(status.UNAUTHENTICATED, 'wrong data token');
    if (request.generation !== generation) {
      return call.end(status.FAILED_PRECONDITION, `generation ${request.generation} is not ${generation}`);
    }
    if (request.rank >= layout.slots.length || request.rank === layout.rank) {
      return call.end(status.INVALID_ARGUMENT, `rank ${request.rank} is no peer`);
    }
    const exchange = await this.#at(request.step);
    const chunks = request.kind === 'PART' ? exchange.partsFor(request.rank) : exchange.results();
    for await (const chunk of chunks) {
      if (!call.open) return;
      // The memory stays as it is until the peer has it: own parts until its sum comes back, sums until the next commit.
      await call.write(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
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

/** Reads on when the received parts are no longer far ahead of what could be summed. */
function resumeLater(call: PulledCall, rank: number, exchange: StepExchange): void {
  const wait = async () => {
    while (!exchange.mayResume(rank)) await exchange.progress();
    call.resume();
  };
  wait().catch(() => call.cancel());
}
