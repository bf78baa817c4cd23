/**
 * A worker's session with the coordinator: messages in the order of the protocol, and the end. It outlives its
 * connection: when the coordinator is gone, the worker goes on to where it needs an answer, and joins the next
 * coordinator of the run with what it holds.
 */
import { OrchestratorError } from '../errors.js';
import { faultOf } from '../fault.js';
import { native } from '../native/load.js';
import type { Link } from '../rpc/links.js';
import type { CoordinatorMessage, Formation, FromWorker, Welcome } from '../rpc/proto.js';
import { timeSpan } from '../text/quantities.js';
import { Connection } from './connection.js';
import { Inbox, type MessageKind } from './inbox.js';
import { Levelled, Stopped } from './interruptions.js';
import { afterSeconds } from './timer.js';

const HEARTBEAT_MS = 250;
const STAGES = {
  idle: 'IDLE',
  compute: 'COMPUTE',
  exchange: 'EXCHANGE',
  update: 'UPDATE',
  wait: 'WAIT',
} as const;
const CONNECT_MS = 30_000;
/** The times between two attempts to reach a coordinator that is gone. */
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 2_000;
/** Within this time after its return the coordinator has formed the next generation. */
const SETTLED_MS = 30_000;

interface SessionEvents {
  /** The worker gets no place for now. */
  onWaiting?: (reason: string) => void;
  /** It has joined a coordinator again, which may be another one. */
  onReturn?: () => void;
  /** The coordinator does not want the copy of a state that was offered with this number. */
  onDeclined?: (number: number) => void;
  /** Tells the user that the coordinator is gone, or back. */
  note?: (text: string) => void;
  /**
   * The address at which the coordinator of a run on this machine listens now, as the run folder says; null: it
   * says nothing.
   */
  addressOf?: (welcome: Welcome) => string | null;
}

export class CoordinatorSession {
  /** Slots of the validation in progress that are computed; the heartbeat tells the coordinator. */
  validated = 0;
  /** Rejects with Stopped or an error when the session ends. */
  readonly over: Promise<never>;
  readonly #events: SessionEvents;
  #link: Link;
  #connection: Connection | null = null;
  readonly #inbox = new Inbox();
  #join: NonNullable<FromWorker['join']> | null = null;
  #standby: (() => NonNullable<FromWorker['standby']>) | null = null;
  /** The instruction set that it has taken on. */
  #isa = '';
  /** The exit code with which it has asked to leave; null: it stays. */
  #leaving: number | null = null;
  #welcome: Welcome | null = null;
  #welcomed: (welcome: Welcome) => void = () => {};
  #draining = false;
  #ended = false;
  #end: (error: Error) => void = () => {};
  /** Whether the coordinator has welcomed this worker and is there, and since when. */
  #present = false;
  #presentSince = 0;
  #delay = FIRST_DELAY_MS;
  #connecting: NodeJS.Timeout | undefined;
  #patience: NodeJS.Timeout | undefined;
  #heartbeat: NodeJS.Timeout | undefined;

  constructor(link: Link, events: SessionEvents = {}) {
    this.#link = link;
    this.#events = events;
    this.over = new Promise((_, reject) => {
      this.#end = reject;
    });
    // Whoever waits for a message gets the error; without a waiter it is not an unhandled rejection.
    this.over.catch(() => {});
  }

  get generation(): number {
    return this.#inbox.generation;
  }

  /** Aborted as soon as this worker's generation is over, or the session (`Inbox.regrouped`). */
  get regrouped(): AbortSignal {
    return this.#inbox.regrouped;
  }

  /** Whether the run was asked to stop: what can be repeated is abandoned. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Whether the coordinator is gone, or was until a moment ago and has not formed the next generation. */
  get unsettled(): boolean {
    return !this.#present || performance.now() - this.#presentSince < SETTLED_MS;
  }

  /** Whether the coordinator is there, as far as this worker knows. */
  get present(): boolean {
    return this.#present;
  }

  /** The instruction set of the run, with which this worker builds now; '': any. */
  takeIsa(): string {
    this.#isa = this.#welcome!.isa;
    return this.#isa;
  }

  /** Whether it is to build again. */
  get #isLevelled(): boolean {
    return this.#inbox.newest === 0 && this.#welcome!.isa !== this.#isa;
  }

  async join(join: NonNullable<FromWorker['join']>): Promise<Welcome> {
    this.#join = join;
    const welcome = new Promise<Welcome>((resolve) => {
      this.#welcomed = resolve;
    });
    const message = `No coordinator at ${this.#link.address}: nobody answered within ${CONNECT_MS / 1000} s`;
    this.#patience = setTimeout(() => {
      this.#close(new OrchestratorError('ERR_COORDINATOR_LOST', message));
    }, CONNECT_MS);
    this.#connect();
    return await Promise.race([welcome, this.over]);
  }

  #connect(): void {
    const address = this.#movedTo();
    if (address !== null) this.#link = { address, proof: null };
    this.#connection = new Connection({
      link: this.#link,
      join: { generation: this.#inbox.newest, join: this.#joining() },
      onMessage: (message) => this.#receive(message),
      onLost: (why, mayReturn) => this.#lost(why, mayReturn),
    });
    if (this.#welcome !== null) this.#watchAddress();
  }

  /** Who has been in a generation does not build again for another instruction set. */
  #joining(): NonNullable<FromWorker['join']> {
    return this.#inbox.newest === 0 ? this.#join! : { ...this.#join!, onlyIsa: this.#isa };
  }

  /** Where the coordinator listens now, if the run folder says another address than before; otherwise null. */
  #movedTo(): string | null {
    if (this.#welcome === null || this.#link.proof !== null) return null;
    const address = this.#events.addressOf?.(this.#welcome) ?? null;
    return address === this.#link.address ? null : address;
  }

  /** A connection that is being made tries one address again and again. */
  #watchAddress(): void {
    this.#connecting = setTimeout(() => {
      if (this.#movedTo() === null) {
        this.#watchAddress();
        return;
      }
      this.#connection?.abort();
      this.#connect();
    }, LONGEST_DELAY_MS);
  }

  /** The connection has ended. A coordinator that has welcomed this worker may come back. */
  #lost(why: OrchestratorError, mayReturn: boolean): void {
    clearInterval(this.#heartbeat);
    clearTimeout(this.#connecting);
    const wasPresent = this.#present;
    this.#present = false;
    // Somebody else may listen at the address while the coordinator is gone.
    const isStranger = why.code === 'ERR_TOKEN' && this.#welcome !== null;
    if (this.#ended || !(mayReturn || isStranger)) {
      this.#close(why);
      return;
    }
    if (wasPresent) {
      this.#delay = FIRST_DELAY_MS;
      const seconds = this.#welcome!.patienceSeconds;
      this.#events.note?.(`warn ${why.message}; this worker waits ${timeSpan(seconds)} for the next`);
      const { code, message } = why;
      const hint = 'Start the run again with the same command: it resumes from the last checkpoint';
      const waited = `${message}; no other has come within ${timeSpan(seconds)}`;
      this.#patience = afterSeconds(seconds, () => {
        this.#close(new OrchestratorError(code, waited, hint));
      });
    }
    this.#connecting = setTimeout(() => this.#connect(), this.#delay);
    this.#delay = Math.min(2 * this.#delay, LONGEST_DELAY_MS);
  }

  #onWelcome(welcome: Welcome): void {
    if (this.#present) {
      this.#welcome = welcome;
      this.#standAgain();
      return;
    }
    clearTimeout(this.#patience);
    clearTimeout(this.#connecting);
    this.#present = true;
    this.#presentSince = performance.now();
    clearInterval(this.#heartbeat);
    this.#heartbeat = setInterval(() => {
      const { stage, ticks } = native().progress();
      this.send({ heartbeat: { validated: this.validated, stage: STAGES[stage], ticks } });
    }, HEARTBEAT_MS);
    const former = this.#welcome;
    this.#welcome = welcome;
    if (former === null) {
      // The first coordinator that this worker meets waits for nobody: there was no generation without it.
      this.#presentSince = Number.NEGATIVE_INFINITY;
      this.#welcomed(welcome);
      return;
    }
    const other = difference(former, welcome);
    if (other !== null) {
      const message = `The coordinator at ${this.#link.address} has come back with another ${other} than the run of this worker`;
      const hint = 'Start this worker again: it then takes part in the run as it is now';
      this.#close(new OrchestratorError('ERR_STATE_MISMATCH', message, hint));
      return;
    }
    // A coordinator that is to stop says so itself.
    this.#draining = false;
    this.#events.note?.('the coordinator is back; this worker has joined it with what it holds');
    this.#standAgain();
    if (this.#leaving !== null) this.send({ leave: { exitCode: this.#leaving } });
    this.#events.onReturn?.();
  }

  /**
   * The worker may be given a place, from now on and by every coordinator that it joins, unless it is to build again.
   *
   * @param standby What it says then.
   */
  standBy(standby: () => NonNullable<FromWorker['standby']>): void {
    this.#standby = standby;
    this.#standAgain();
  }

  #standAgain(): void {
    if (this.#isLevelled) this.#standby = null;
    if (this.#standby === null) this.#inbox.wake();
    else this.send({ standby: this.#standby() });
  }

  /** Asks to leave. Without a coordinator, the worker ends at once. */
  leave(exitCode: number): void {
    this.#leaving = exitCode;
    if (this.#present) this.send({ leave: { exitCode } });
    else this.#close(new Stopped(exitCode));
  }

  send(message: FromWorker): void {
    if (this.#present) this.#connection?.send({ generation: this.generation, ...message });
  }

  /**
   * Reports an error to the coordinator, which ends the run if others would meet it, too, and otherwise goes on
   * without this worker.
   */
  fail(error: Error): void {
    const { code, message, hint } = faultOf(error);
    this.send({ failure: { code, message, hint: hint ?? '' } });
  }

  /**
   * Waits for the next generation and enters it (`Inbox.formation`). Before the first one it rejects with Levelled if this
   * worker is to build again.
   */
  async formation(): Promise<Formation> {
    return await this.#inbox.formation(this.#join!.workerId!, () => {
      if (this.#isLevelled) throw new Levelled();
    });
  }

  /** The next message of this worker's generation, which must be of this kind (`Inbox.next`). */
  async next<K extends MessageKind>(kind: K): Promise<NonNullable<CoordinatorMessage[K]>> {
    return await this.#inbox.next(kind);
  }

  close(): void {
    this.#clearTimers();
    this.#connection?.close();
  }

  #receive(message: CoordinatorMessage): void {
    if (message.stop) {
      this.#close(new Stopped(message.stop.exitCode));
      return;
    }
    if (message.welcome) {
      this.#onWelcome(message.welcome);
      return;
    }
    if (message.drain) {
      this.#draining = true;
      return;
    }
    if (message.waiting) {
      const { reason } = message.waiting;
      if (reason !== '') this.#events.onWaiting?.(reason);
      this.#inbox.leftOut(message.generation);
      return;
    }
    if (message.declined) {
      this.#events.onDeclined?.(message.declined.number);
      return;
    }
    this.#inbox.put(message);
  }

  #clearTimers(): void {
    clearTimeout(this.#connecting);
    clearTimeout(this.#patience);
    clearInterval(this.#heartbeat);
  }

  #close(error: Error): void {
    this.#clearTimers();
    this.#end(error);
    this.#ended = true;
    this.#inbox.end(error);
  }
}

/** What of the run is another one than before, in words; null: nothing that a worker depends on. */
function difference(before: Welcome, now: Welcome): string | null {
  if (before.configJson !== now.configJson) return 'configuration';
  if (before.planJson !== now.planJson) return 'sample plan';
  if (before.runDir !== now.runDir) return 'run folder';
  return before.workers === now.workers ? null : 'number of workers';
}
