/**
 * All-reduce of gradients between workers over gRPC: a reduce-scatter and an all-gather, pulled by the
 * receiver. In each step, each worker opens two streams to every peer: PART brings the peer's local sums of
 * the slices that this worker owns, RESULT the global sums of those that the peer owns. Both are opened
 * before backward starts, and transfer bucket by bucket while it runs. Tensor bytes are sent without a copy;
 * see rpc/framing.ts.
 */
import { status } from '@grpc/grpc-js';
import { OrchestratorError } from '../../errors.js';
import type { GradientNorm } from '../../native/contract.js';
import { connectStreams, type PulledCall, type Receiver, type StreamClient } from '../../rpc/grpc-client.js';
import { type ServedCall, StreamServer } from '../../rpc/grpc-server.js';
import { type Link, Unreachable } from '../../rpc/links.js';
import { Peer, type PullRequest } from '../../rpc/proto.js';
import type { Identity } from '../../security/identity.js';
import { StateOffers } from '../offer.js';
import type { PullShare } from '../state-transfer.js';
import { type Collective, ExchangeBroken, type Gradients } from './collective.js';
import { type ExchangeLayout, StepExchange } from './exchange.js';

type Kind = 'PART' | 'RESULT';

const { path, requestSerialize, requestDeserialize } = Peer.service.Pull;
/** Less than the coordinator's limit, whose message knows less. */
const CONNECT_TIMEOUT_MS = 60_000;

type Serve = (request: PullRequest, call: ServedCall) => Promise<void>;

/** The serving side. It exists before the first generation, because its address is sent when joining. */
export class PeerServer extends StreamServer {
  /** What this worker offers the coordinator. */
  readonly offers: StateOffers;
  #serve: Serve | null = null;
  /** Requests of peers that have reached their next generation before this worker. */
  #early: (() => void)[] = [];

  /** @param onRefused Gets what was refused and why, at a limited rate. */
  constructor(onRefused: (message: string) => void) {
    const offers = new StateOffers();
    const serve = (bytes: Buffer, call: ServedCall, peer: Identity | null) => {
      const request = requestDeserialize(bytes);
      if (request.kind === 'OFFERED') {
        if (peer?.role === 'coordinator') void offers.serve(request.step, call);
        else call.end(status.PERMISSION_DENIED, 'the state is offered to the coordinator alone');
        return;
      }
      const answer = () =>
        this.#serve!(request, call).catch((error: Error) => call.end(status.ABORTED, error.message));
      if (this.#serve === null) this.#early.push(answer);
      else void answer();
    };
    super({ path, serve, onRefused });
    this.offers = offers;
  }

  attach(serve: Serve | null): void {
    this.#serve = serve;
    if (serve !== null) for (const answer of this.#early.splice(0)) answer();
  }
}

interface GrpcCollectiveOptions {
  gradients: Gradients;
  layout: ExchangeLayout;
  generation: number;
  server: PeerServer;
  /** How each worker is reached, by rank; this worker's own is not used. */
  links: readonly Link[];
  /**
   * A share of the state that this worker holds after a step; null if it holds another one. It must not change
   * before the first step of the generation.
   */
  state: (step: number, share: number, shares: number) => Promise<readonly Float32Array[] | null> | null;
  /** Ends connecting, and everything else. */
  signal: AbortSignal;
}

export class GrpcCollective implements Collective {
  readonly sharesState = false;
  readonly #options: GrpcCollectiveOptions;
  readonly #clients: { rank: number; client: StreamClient }[] = [];
  #current: StepExchange | null = null;
  #calls: PulledCall[] = [];
  #closed = false;
  /** Requests of peers that are one step ahead. */
  readonly #waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];

  private constructor(options: GrpcCollectiveOptions) {
    this.#options = options;
  }

  /** Connects to all peers. */
  static async connect(options: GrpcCollectiveOptions): Promise<GrpcCollective> {
    const collective = new GrpcCollective(options);
    const { server, links, signal } = options;
    server.attach((request, call) => collective.#serve(request, call));
    signal.addEventListener('abort', () => collective.close(), { once: true });
    try {
      await Promise.all(links.map((link, rank) => collective.#connect(link, rank)));
      signal.throwIfAborted();
    } catch (error) {
      collective.close();
      throw error;
    }
    return collective;
  }

  /** Starts receiving a share of the state that a peer holds. */
  readonly pullShare: PullShare = ({ rank, step, share, shares }, receiver) => {
    const { generation, layout } = this.#options;
    const { client } = this.#clients.find((peer) => peer.rank === rank)!;
    const request = { generation, step, kind: 'STATE', rank: layout.rank, share, shares } as const;
    this.#calls.push(client.pull(requestSerialize(request), receiver));
  };

  begin(step: number): (bucket: number) => void {
    const exchange = new StepExchange(this.#options.layout, step, this.#options.gradients);
    this.#current = exchange;
    this.#calls = this.#clients.flatMap(({ rank, client }) => [
      this.#pull(client, rank, 'PART', exchange),
      this.#pull(client, rank, 'RESULT', exchange),
    ]);
    for (const { resolve } of this.#waiting.splice(0)) resolve();
    return (bucket) => exchange.announce(bucket);
  }

  async reduce(): Promise<GradientNorm> {
    const exchange = this.#current;
    if (exchange === null) throw new OrchestratorError('ERR_INTERNAL', 'no exchange has begun');
    await exchange.finished();
    const norm = await this.#options.gradients.reduce();
    // The caller will look for the cause, which overwrites what peers may still be reading.
    if (!Number.isFinite(norm.norm)) await exchange.allDelivered();
    return { ...norm, receivedBytes: exchange.bytesReceived };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#options.server.attach(null);
    for (const call of this.#calls) call.cancel();
    for (const { client } of this.#clients) client.close();
    const error = new OrchestratorError('ERR_EXCHANGE', 'The exchange was closed');
    this.#current?.fail(error);
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  async #connect(link: Link, rank: number): Promise<void> {
    if (rank === this.#options.layout.rank) return;
    const { signal } = this.#options;
    try {
      const client = await connectStreams(link, path, CONNECT_TIMEOUT_MS, signal);
      this.#clients.push({ rank, client });
      if (this.#closed) client.close();
    } catch (cause) {
      const hint = cause instanceof Unreachable ? '; a firewall may drop what is sent to this port' : '';
      const message = `Cannot reach rank ${rank} at ${link.address}: ${(cause as Error).message}${hint}`;
      throw new ExchangeBroken(rank, message, cause as Error);
    }
  }

  /** Starts receiving one stream of one peer; throws when the connection is lost. */
  #pull(client: StreamClient, rank: number, kind: Kind, exchange: StepExchange): PulledCall {
    const { generation, layout } = this.#options;
    const { step } = exchange;
    const request = requestSerialize({ generation, step, kind, rank: layout.rank });
    const broke = (cause: Error | null) => {
      const details = cause === null ? 'the stream ended early' : cause.message;
      const message = `The exchange with rank ${rank} broke at step ${step}: ${details}`;
      return new ExchangeBroken(rank, message, cause);
    };
    const incoming = kind === 'PART' ? exchange.receiveParts(rank) : exchange.receiveResults(rank);
    /** Backpressure: resumes a paused call when its parts are no longer far ahead of the summing. */
    const resumeLater = async () => {
      while (!incoming.mayContinue()) await exchange.change();
      call.resume();
    };
    const receiver: Receiver = {
      open: incoming.open,
      close: () => {
        incoming.close();
        if (incoming.mayContinue()) return true;
        resumeLater().catch(() => call.cancel());
        return false;
      },
      ended: (cause) => {
        if (!incoming.complete()) exchange.fail(broke(cause));
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

  /** Answers one Pull request of a peer. */
  async #serve(request: PullRequest, call: ServedCall): Promise<void> {
    const { generation, layout } = this.#options;
    if (request.generation !== generation) {
      return call.end(
        status.FAILED_PRECONDITION,
        `generation ${request.generation} is not the current one, ${generation}`,
      );
    }
    if (request.rank >= layout.nodes.length || request.rank === layout.rank) {
      return call.end(status.INVALID_ARGUMENT, `rank ${request.rank} is not a peer`);
    }
    if (request.kind === 'STATE') return await this.#serveState(request, call);
    const exchange = await this.#at(request.step);
    void call.over.then(() => exchange.delivered());
    const chunks = request.kind === 'PART' ? exchange.partsFor(request.rank) : exchange.results();
    // The memory does not change until the peer has it: parts until their sum returns, sums until the next commit.
    await call.send(chunks);
  }

  async #serveState({ step, share, shares }: PullRequest, call: ServedCall): Promise<void> {
    if (share >= shares) return call.end(status.INVALID_ARGUMENT, `share ${share} of ${shares}`);
    const pieces = await this.#options.state(step, share, shares);
    if (pieces === null)
      return call.end(status.FAILED_PRECONDITION, `the state after step ${step} is not here`);
    await call.send(pieces);
  }

  /** The exchange of a step; waits if the peer is one step ahead. */
  async #at(step: number): Promise<StepExchange> {
    for (;;) {
      const current = this.#current;
      if (current?.step === step) return current;
      if (current !== null && step !== current.step + 1)
        throw new Error(`step ${step} was requested at step ${current.step}`);
      await new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    }
  }
}
