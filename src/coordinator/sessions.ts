/**
 * The coordinator's gRPC server: turns the workers' messages into events, and sends messages to the workers.
 */
import { X509Certificate } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { isAddressOrNone } from '../rpc/address.js';
import { checkedMessage } from '../rpc/framing.js';
import { Listener, type NetworkSocket } from '../rpc/listener.js';
import {
  Coordinator,
  type Credential,
  type FromCoordinator,
  type Invitation,
  type WorkerMessage,
} from '../rpc/proto.js';
import { PROTOCOL } from '../rpc/protocol.js';
import { controlOptions } from '../rpc/transport.js';
import { type Event, isCurrent, type MessageEvent } from '../rule/events.js';
import { identityOf } from '../security/identity.js';
import type { TokenRules } from '../security/tokens.js';
import { allPrintable, printableLine } from '../text/printable.js';
import { build } from '../version.js';
import type { StateCall } from './serve-checkpoint.js';

type Session = ServerDuplexStream<WorkerMessage, FromCoordinator>;
type InviteCall = ServerUnaryCall<Invitation, Credential>;

/** The build of the code that this process runs, whatever is built later. */
const BUILD = build();
/** Time limit for the first message of a session. */
const JOIN_MS = 10_000;
/** The end does not wait for a worker that was not heard for so long; a heartbeat comes four times a second. */
const SILENT_MS = 3_000;
/** Time for what was written last to arrive, and for connections to end. */
const SETTLE_MS = 500;
const POLL_MS = 50;
/** A worker has one session. */
const SESSIONS_PER_CONNECTION = 1;
/** How long a credential may be valid. */
const MOST_SECONDS = 30 * 86_400;
const MAX_TEXT = 256;
/** The most texts of a Join. */
const MOST_TEXTS = 64;
/** Longest text about a device and what it computes; NCCL's unique id has 256 hexadecimal digits. */
const MAX_DEVICE = 1024;
/** A worker may have heard of more generations than the coordinator, whose journal may lack the last ones; not of so many. */
const MOST_AHEAD = 1_000_000;
/** Longest text of what has failed. */
const MAX_MESSAGE = 4_096;

/** The service, with messages that are encoded once however many workers get them, and states as they are. */
const SERVICE = encodedOnce(Coordinator.service);

/** Whether a worker takes part: it is here, it was lost, nothing was heard of it for too long, or it was told to end. */
export type Presence = 'here' | 'lost' | 'cutOff' | 'released';

interface SessionsOptions {
  /** The most workers of the run. */
  workers: number;
  /** The current generation; messages of others are refused. */
  generation: () => number;
  /** The last generation before this coordinator; 0: none. */
  lastGeneration: number;
  /** Who was in an older generation than this one holds a state that the run does not go on from. */
  since: number;
  /** Makes a credential for workers of other machines; null if the run is for this machine alone. */
  invite: (rules: TokenRules) => string | null;
  /** Sends a member of another machine the last checkpoint. */
  onState?: (call: StateCall) => void;
  /** Called when a worker has joined, and when its session has ended. */
  onMember?: (id: string, presence: Presence, pid: number) => void;
  /** Called for every event. */
  onEvent: (event: Event) => void;
  /** Called with a description of what was refused, for the log, at a limited rate. */
  onRefused: (message: string) => void;
}

export class Sessions {
  readonly #options: SessionsOptions;
  readonly #listener: Listener;
  /** One for connections within the machine, and one for those that are known by their certificate. */
  readonly #servers: readonly Server[];
  readonly #sessions = new Map<string, Session>();
  /** The process that has joined last under each id, whether its session is open or not; and what it knew then. */
  readonly #processes = new Map<string, { process: string; pid: number; newest: number }>();
  /** When each of those was last heard. */
  readonly #heard = new Map<string, number>();
  /** Those that were told to end. */
  readonly #released = new Set<string>();

  constructor(options: SessionsOptions) {
    this.#options = options;
    const { workers, onRefused } = options;
    const within = this.#serve(
      (session) => this.#open(session, null),
      (call, answer) => this.#invite(call, answer),
      (call) => refuse(call, status.PERMISSION_DENIED, 'a worker of this machine sees the run folder'),
    );
    const network = this.#serve(
      (session) => {
        const id = certifiedId(session);
        // A connection that has ended meanwhile has none any more, and is not taken for one within the machine.
        if (id === null) refuse(session, status.UNAUTHENTICATED, 'the connection has no certificate');
        else this.#open(session, id);
      },
      (_, answer) =>
        answer({ code: status.PERMISSION_DENIED, details: 'only the user of the run may invite workers' }),
      (call) => {
        const id = certifiedId(call);
        if (id !== null && this.#sessions.has(id) && options.onState) options.onState(call);
        else refuse(call, status.PERMISSION_DENIED, 'only members get the state');
      },
    );
    this.#servers = [within.server, network.server];
    this.#listener = new Listener({
      admit: (socket, peer) => (peer === null ? within : network).injector.injectConnection(socket),
      onRefused,
    });
    this.#listener.expect(workers);
  }

  /**
   * Listens within the machine and returns the address.
   *
   * @param former An address that is taken if nobody else has it; null: any.
   */
  listenLocally(former: string | null = null): Promise<string> {
    return this.#listener.listenLocally(former);
  }

  /** Listens on a network and returns the port. */
  listen(socket: Omit<NetworkSocket, 'roles'>): Promise<number> {
    return this.#listener.listen({ ...socket, roles: ['worker'] });
  }

  /** Sends to these workers, or to all (null). */
  send(to: readonly string[] | null, message: FromCoordinator): void {
    for (const id of to ?? this.#sessions.keys()) {
      if (message.stop) this.#released.add(id);
      this.#sessions.get(id)?.write(message);
    }
  }

  /** The worker cannot take part. */
  refuse(id: string, message: string): void {
    this.#end(id, status.FAILED_PRECONDITION, message);
  }

  /**
   * The others go on without the worker; or none is left, and it may join again.
   *
   * @param isSilent Whether nothing was heard of it for too long.
   */
  cut(id: string, reason: string, { mayReturn = false, isSilent = false } = {}): void {
    this.#end(id, mayReturn ? status.UNAVAILABLE : status.ABORTED, reason, isSilent);
  }

  #end(id: string, code: status, details: string, isSilent = false): void {
    const session = this.#sessions.get(id);
    this.#leave(id, isSilent ? 'cutOff' : 'lost');
    if (session !== undefined) refuse(session, code, details);
  }

  /**
   * Waits until the workers, which were told to end, have ended their sessions. Those still open after `timeoutMs`, or of
   * which nothing is heard, are aborted.
   */
  async close(timeoutMs: number): Promise<void> {
    const closed = this.#listener.close().then(() => true);
    for (const server of this.#servers) server.tryShutdown(() => {});
    const passes = (ms: number) => Promise.race([closed, sleep(ms, false, { ref: false })]);
    const due = performance.now() + timeoutMs;
    let isClosed = await passes(Math.min(timeoutMs, SETTLE_MS));
    while (!isClosed && performance.now() < due && this.#anyHeard()) isClosed = await passes(POLL_MS);
    for (const id of [...this.#sessions.keys()]) {
      // While its connection is open, nobody knows whether the worker has received what it was told.
      if (!isClosed) this.#released.delete(id);
      this.#leave(id, 'cutOff');
    }
    for (const server of this.#servers) server.forceShutdown();
  }

  /** Whether there is a session that is alive. */
  #anyHeard(): boolean {
    const since = performance.now() - SILENT_MS;
    return [...this.#sessions.keys()].some((id) => (this.#heard.get(id) ?? 0) >= since);
  }

  #serve(
    Session: (session: Session) => void,
    Invite: handleUnaryCall<Invitation, Credential>,
    State: (call: StateCall) => void,
  ) {
    const server = new Server({ ...controlOptions, 'grpc.max_concurrent_streams': SESSIONS_PER_CONNECTION });
    server.addService(SERVICE, { Session, Invite, State });
    return { server, injector: server.createConnectionInjector(ServerCredentials.createInsecure()) };
  }

  #invite(call: InviteCall, answer: sendUnaryData<Credential>): void {
    const { worker, uses, seconds } = call.request;
    if (uses < 1 || !(seconds > 0 && seconds <= MOST_SECONDS)) {
      const details = `expected at least one use within ${MOST_SECONDS / 86_400} days`;
      answer({ code: status.INVALID_ARGUMENT, details });
      return;
    }
    try {
      const line = this.#options.invite({ uses, seconds, worker: worker === '' ? null : worker });
      if (line === null) {
        answer({ code: status.FAILED_PRECONDITION, details: 'the run is for this machine alone' });
      } else answer(null, { line });
    } catch (error) {
      answer({ code: status.RESOURCE_EXHAUSTED, details: (error as Error).message });
    }
  }

  /** @param certified The id in the worker's certificate; null within the machine. */
  #open(session: Session, certified: string | null): void {
    let id: string | null = null;
    const timer = setTimeout(() => {
      this.#listener.refused(`a connection from ${session.getPeer()} that did not join`);
      refuse(session, status.DEADLINE_EXCEEDED, 'the first message did not come in time');
    }, JOIN_MS);
    const lost = (reason: string) => {
      clearTimeout(timer);
      if (id === null || this.#sessions.get(id) !== session) return;
      this.#leave(id);
      this.#options.onEvent({ type: 'lost', id, reason });
    };
    session.on('data', (received: WorkerMessage) => {
      if (id === null) {
        clearTimeout(timer);
        id = this.#join(session, allPrintable(received), certified);
        if (id !== null) this.#heard.set(id, performance.now());
        return;
      }
      if (this.#sessions.get(id) !== session) return;
      this.#heard.set(id, performance.now());
      if (received.heartbeat) {
        // They come often, have no text, and count in every generation.
        this.#options.onEvent({ type: 'heartbeat', id, heartbeat: received.heartbeat });
      } else this.#receive(id, allPrintable(received));
    });
    session.on('error', (error: Error) => lost(error.message));
    session.on('cancelled', () => lost('its connection was reset'));
    session.on('end', () => {
      lost('it ended its session');
      session.end();
    });
  }

  /** The worker's id, or null if it was refused. */
  #join(session: Session, message: WorkerMessage, certified: string | null): string | null {
    const newest = Number.isSafeInteger(message.generation) ? message.generation : 0;
    const fault = this.#joinFault(message.join && namesOf(message.join), certified, newest);
    if (fault !== null) {
      const [code, details] = fault;
      this.#listener.refused(`a connection from ${session.getPeer()}: ${details}`);
      refuse(session, code, details);
      return null;
    }
    const { workerId: id, protocol: _, build: __, ...join } = namesOf(message.join!);
    const former = this.#sessions.get(id);
    this.#sessions.set(id, session);
    this.#processes.set(id, { process: processOf(join), pid: join.pid, newest });
    this.#released.delete(id);
    this.#options.onMember?.(id, 'here', join.pid);
    if (former !== undefined) refuse(former, status.ALREADY_EXISTS, `worker ${id} has joined again`);
    this.#options.onEvent({ type: 'joined', id, newest, ...join });
    return id;
  }

  /**
   * @param certified The id in the worker's certificate; null within the machine.
   * @param newest The newest generation that the worker has heard of; 0: none.
   */
  #joinFault(
    join: WorkerMessage['join'],
    certified: string | null,
    newest: number,
  ): [code: status, details: string] | null {
    if (!join) return [status.FAILED_PRECONDITION, 'the first message was not Join'];
    const { protocol, workerId, pid: _, ownAccord: __, instructionSets, ...names } = join;
    const mixed = mixedVersions(protocol, names.build);
    if (mixed !== null) return [status.FAILED_PRECONDITION, mixed];
    const texts = [workerId, ...instructionSets, ...Object.values(names)];
    const tooLong = texts.length > MOST_TEXTS || texts.some((text) => text.length > MAX_TEXT);
    const nowhere = ![names.dataAddress, names.localAddress].every(isAddressOrNone);
    if (workerId === '' || tooLong || nowhere) return [status.INVALID_ARGUMENT, 'malformed Join'];
    if (certified !== null && workerId !== certified) {
      return [status.PERMISSION_DENIED, `worker ${workerId} has the certificate of worker ${certified}`];
    }
    // The next generation is one more than the newest of all workers: it must stay a number that can be counted up.
    if (newest - this.#options.generation() > MOST_AHEAD) {
      return [status.INVALID_ARGUMENT, `malformed Join: the run has no generation ${newest}`];
    }
    if (newest > 0 && newest < this.#options.since) {
      const details = `the run has begun again meanwhile, and worker ${workerId} holds the state from before`;
      return [status.FAILED_PRECONDITION, details];
    }
    const other = this.#processes.get(workerId);
    const isFormer = newest > 0 && newest <= this.#options.lastGeneration;
    // A process without a generation was started in its place. Of two that return, the one of the older is late.
    const isLate = isFormer && other !== undefined && (other.newest === 0 || newest < other.newest);
    if (isLate && other.process !== processOf(join)) {
      return [status.FAILED_PRECONDITION, `another process has come as worker ${workerId} meanwhile`];
    }
    return null;
  }

  #leave(id: string, otherwise: Presence = 'lost'): void {
    const isReleased = this.#released.delete(id);
    if (!this.#sessions.delete(id)) return;
    const { pid } = this.#processes.get(id)!;
    this.#options.onMember?.(id, isReleased ? 'released' : otherwise, pid);
  }

  #receive(id: string, message: WorkerMessage): void {
    const event = eventOf(id, message);
    const generation = this.#options.generation();
    if (event !== null && isCurrent(event, message.generation, generation)) this.#options.onEvent(event);
    // What was sent before the worker heard of the next generation is nobody's fault.
    else if (event === null || message.generation > generation)
      this.#listener.refused(`${message.message} of generation ${message.generation} from worker ${id}`);
  }
}

/** Why a worker has another program than this process; null: it has the same. */
function mixedVersions(protocol: number, build: string): string | null {
  const [what, theirs, own] =
    protocol === PROTOCOL ? ['build', build.slice(0, MAX_TEXT), BUILD] : ['protocol', protocol, PROTOCOL];
  if (theirs === own) return null;
  const remedy = 'check out the same commit on both machines, and run npm run setup on each';
  return `its program has ${what} ${theirs}, that of the coordinator ${what} ${own}: mixed versions of orchestrator; ${remedy}`;
}

/** Which process a worker is: a number has a meaning within a boot of a machine and its namespaces. */
function processOf({ machine, pid }: { machine?: string; pid?: number }): string {
  return `${machine} ${pid}`;
}

/** The texts of a Join are names, which stand in the middle of lines. */
function namesOf<T extends object>(join: T): T {
  const line = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(line);
    return typeof value === 'string' ? printableLine(value) : value;
  };
  const fields = Object.entries(join).map(([key, value]) => [key, line(value)]);
  return Object.fromEntries(fields) as T;
}

/** Null for a message that does not belong here. */
function eventOf(id: string, message: WorkerMessage): MessageEvent | null {
  const { message: type, formed, ready, standby, failure, notSaved, suspect } = message;
  if (type === undefined || type === 'join') return null;
  for (const texts of [failure, notSaved?.failure, suspect]) if (texts) shorten(texts, MAX_MESSAGE);
  // They go to all workers, or into the run's files and its status.
  for (const texts of [formed?.device, formed?.sharing, ready, standby])
    if (texts) shorten(texts, MAX_DEVICE);
  return { type, id, [type]: message[type] } as unknown as MessageEvent;
}

/** Cuts off what is too long of the texts of a message. */
function shorten(message: object, most: number): void {
  for (const [key, value] of Object.entries(message)) {
    if (typeof value === 'string') Object.assign(message, { [key]: value.slice(0, most) });
  }
}

/** The worker's id in the certificate with which it has connected; null if the connection has ended. */
function certifiedId(call: Session | StateCall): string | null {
  const raw = call.getAuthContext().sslPeerCertificate?.raw;
  return raw === undefined ? null : (identityOf(new X509Certificate(raw))?.id ?? null);
}

function refuse(session: Session | StateCall, code: status, details: string): void {
  session.emit('error', { code, details });
}

function encodedOnce({ Session, State, ...others }: typeof Coordinator.service) {
  const encoded = new WeakMap<FromCoordinator, Buffer>();
  const responseSerialize = (message: FromCoordinator) => {
    const bytes = encoded.get(message) ?? Session.responseSerialize(message);
    encoded.set(message, bytes);
    return bytes;
  };
  return {
    ...others,
    Session: { ...Session, responseSerialize },
    State: { ...State, responseSerialize: checkedMessage },
  };
}
