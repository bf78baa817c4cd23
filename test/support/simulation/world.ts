/** A run in a world of its own: a clock, a network, a disk, a launcher, and faults, all drawn from a seed. */

import type { FromCoordinator } from '../../../src/rpc/proto.js';
import { isCurrent, type MessageEvent, type Settings, STOP_MS } from '../../../src/rule/events.js';
import { generator } from '../random.js';
import { Clock } from './clock.js';
import { Coordinator } from './coordinator.js';
import { Disk } from './disk.js';
import { strike } from './faults.js';
import { Meeting } from './memory.js';
import { Network } from './network.js';
import { isLaunched, Processes } from './processes.js';
import { Processors } from './processors.js';
import type { Offer } from './saver.js';
import { type Session, sessionOf } from './session.js';
import { drawn } from './settings.js';
import { type Started, type State, Witness } from './witness.js';
import type { Said, Worker } from './worker.js';

/** Nothing runs longer than this. */
const END_MS = 300_000;
export class World {
  readonly clock = new Clock();
  readonly witness = new Witness();
  readonly settings: Settings;
  readonly coordinator: Coordinator;
  readonly below: (n: number) => number;
  readonly #random: () => number;
  /** The newest session of every id. */
  readonly #sessions = new Map<string, Session>();
  /** How often a member took the state from the memory of others, and all came to share one. */
  transfers = 0;
  joins = 0;
  /** A worker was left with the memory of a generation that has not started, and could not share that of the others. */
  strays = false;
  /** How often a session broke and both ends lived. */
  resets = 0;
  /** How many that were not heard might join again. */
  parted = 0;
  /** When something last went wrong. */
  lastFault = 0;
  readonly processes: Processes;
  readonly network: Network;
  readonly disk: Disk;
  /** Whether workers offer to share memory, and whether some of them cannot. */
  readonly shares: boolean;
  readonly unable: boolean;
  readonly #processors: Processors;
  /** How often those that had joined had to build again. */
  lowered = 0;
  /** Which workers do not see the run folder. */
  readonly blind: 'none' | 'some' | 'all';
  readonly #meetings = new Map<string, Meeting>();
  /** The step from which on one worker's state is another one. */
  readonly #differs: number;
  stopped = false;
  /** Whether at some time no member held the state. */
  deserted = false;

  /** @param tell Gets the story, line by line. */
  constructor(seed: number, tell: ((line: string) => void) | null = null) {
    this.#random = generator(seed);
    this.below = (n) => Math.floor(this.#random() * n);
    const { settings, areMixed } = drawn(this);
    this.settings = settings;
    this.#processors = new Processors(this.below, areMixed);
    this.network = new Network(this);
    this.disk = new Disk(this);
    this.#differs = settings.workers > 1 && this.chance(0.05) ? 1 + this.below(8) : Number.POSITIVE_INFINITY;
    this.processes = new Processes(this, this.#sessions);
    this.shares = this.chance(0.5);
    this.unable = this.chance(0.1);
    this.blind = this.chance(0.7) ? 'none' : this.chance(0.4) ? 'some' : 'all';
    this.coordinator = new Coordinator(this, tell);
  }

  get differs(): boolean {
    return this.#differs !== Number.POSITIVE_INFINITY;
  }

  chance(probability: number): boolean {
    return this.#random() < probability;
  }

  /** Runs to the end, or for as long as a run may take. */
  run(): void {
    const { workers } = this.settings;
    this.coordinator.begin();
    for (let i = 0; i < workers; i++) this.processes.starts(`w${i}`, this.below(500));
    this.coordinator.everyTick();
    const faults = this.chance(0.25) ? 0 : 1 + this.below(5);
    for (let i = 0; i < faults; i++) this.clock.later(this.below(6_000), () => strike(this));
    if (this.chance(0.15)) {
      this.clock.later(this.below(5_000), () => {
        this.stopped = true;
        this.coordinator.tellToStop();
      });
    }
    this.clock.run(() => this.coordinator.end !== null || this.clock.now > END_MS);
  }

  // What workers see of the world.

  say(worker: Worker, { type, body }: Said): void {
    const session = this.#sessions.get(worker.id)!;
    if (!session.open) return;
    const event = { type, id: worker.id, [type]: body } as unknown as MessageEvent;
    const { generation } = worker;
    const deliver = () => {
      if (this.#sessions.get(worker.id) !== session || !session.open) return;
      // One that is to build again does not stand by.
      const isEarlier =
        event.type === 'standby' && event.standby.arithmetic !== `isa ${session.welcomes.isa}`;
      if ((event.type === 'standby' || event.type === 'leave') && !isEarlier)
        worker.heard[event.type] ??= this.clock.now;
      if (isCurrent(event, generation, this.coordinator.state.generation)) this.coordinator.happens(event);
    };
    this.network.transmit(session, 'up', deliver);
  }

  exits(worker: Worker, code: number): void {
    this.processes.ends(worker, { code, signal: null }, false);
  }

  /** The state that a process holds and can serve; null: it is gone, or holds none. */
  memoryOf(id: string): State | null {
    const worker = this.#sessions.get(id)?.worker;
    return worker?.alive ? worker.held : null;
  }

  /** What a process that lives keeps for the coordinator. */
  offerOf(id: string): Offer | null {
    const worker = this.#sessions.get(id)?.worker;
    return worker?.alive ? worker.saver.offer : null;
  }

  /** Runs later, when the process does not stand still or is gone. */
  whenAnswering(id: string, delay: number, run: () => void): void {
    this.clock.later(delay, () => {
      const worker = this.#sessions.get(id)?.worker;
      const frozen = worker?.alive ? worker.frozenUntil - this.clock.now : 0;
      if (frozen > 0) this.whenAnswering(id, frozen, run);
      else run();
    });
  }

  /** A member comes to a generation that shares memory: all of them when the last one has come, else none. */
  meet(worker: Worker, members: readonly string[]): readonly Worker[] {
    const { generation } = worker;
    const key = `${generation} ${members.join(' ')}`;
    const meeting = this.#meetings.get(key) ?? new Meeting();
    this.#meetings.set(key, meeting);
    const all = meeting.come(worker, members.length, this.witness);
    if (all.length > 0) this.joins++;
    this.strays ||= meeting.hasStranger;
    // Nobody else may write there. Who is told of it leaves the memory by itself.
    const { shared } = worker;
    for (const { worker: other, open } of this.#sessions.values()) {
      if (all.length === 0 || other.shared !== shared || all.includes(other) || other.isOut) continue;
      if (open && other.frozenUntil <= this.clock.now) other.leaveGeneration();
      else this.processes.ends(other, { code: null, signal: 'SIGKILL' }, true);
    }
    return all;
  }

  /** The coordinator is dead, and all sessions with it. Workers join the next one. */
  loseCoordinator(): void {
    for (const session of this.#sessions.values()) {
      if (!session.open) continue;
      Object.assign(session, { open: false, lingers: this.chance(0.5) });
      session.worker.heard = { standby: null, leave: null };
      this.joinsLater(session.worker, 100 + this.below(2_000));
    }
  }

  /** What these held when their generation formed, and hold now. */
  heldBy(ids: readonly string[]): Started[] {
    const workers = ids.map((id) => this.#sessions.get(id)!.worker);
    return workers.map(({ before, held, isa }) => ({ before, state: held, isa }));
  }

  checkpoint(path: string): State {
    const [step, value] = path.split(':').map(Number);
    return { step: step!, value: value! };
  }

  stateHash({ id, held }: Worker): string {
    return id === 'w0' && held!.step >= this.#differs ? 'other' : String(held!.value);
  }

  // What the coordinator sees of it.

  /** The newest of every id. */
  get sessions(): readonly Session[] {
    return [...this.#sessions.values()];
  }

  /** To these workers, or to all (null). */
  send(to: readonly string[] | null, message: FromCoordinator): void {
    for (const id of to ?? [...this.#sessions.keys()]) this.#send(id, message);
  }

  #send(id: string, message: FromCoordinator): void {
    const session = this.#sessions.get(id);
    if (!session?.open) return;
    const { welcomes } = session;
    const welcome = message.welcome ? ++welcomes.sent : null;
    if (message.welcome) {
      if (welcome! > 1) this.lowered++;
      welcomes.isa = message.welcome.isa!;
      session.worker.heard.standby = null;
    }
    const deliver = () => {
      const { worker } = session;
      // No connection brings an older one after a newer one.
      if (welcome !== null && welcome < welcomes.taken) return;
      welcomes.taken = welcome ?? welcomes.taken;
      if (!(session.open || session.lingers) || this.#sessions.get(id) !== session) return;
      if (!worker.alive) return;
      const frozen = worker.frozenUntil - this.clock.now;
      if (frozen > 0) this.clock.later(frozen, deliver);
      else worker.receive(message);
    };
    this.network.transmit(session, 'down', deliver);
  }

  /** It cannot take part, and no other process of the name can. */
  refuse(id: string): void {
    if (isLaunched(id)) this.processes.wasShort = true;
    this.cut(id);
  }

  /** The coordinator has ended the session; the process notices, and ends. */
  cut(id: string): void {
    const session = this.#sessions.get(id);
    // It stands still, and its connection broke before: nobody waits for it.
    if (session && session.worker.frozenUntil > this.clock.now) this.deserted = true;
    if (!session?.open) return;
    Object.assign(session, { open: false, cut: true });
    this.countHolders();
    const { worker } = session;
    const notice = () => {
      const frozen = worker.frozenUntil - this.clock.now;
      if (frozen > 0) this.clock.later(frozen, notice);
      else if (worker.alive) this.processes.ends(worker, { code: 1, signal: null }, true);
    };
    this.clock.later(1 + this.below(50), notice);
  }

  /** The coordinator has ended the session of one that it does not hear, which joins again when it can. */
  parts(id: string): void {
    const session = this.#sessions.get(id);
    if (!session?.open) return;
    this.parted++;
    session.open = false;
    session.worker.heard = { standby: null, leave: null };
    this.countHolders();
    this.joinsLater(session.worker, 100 + this.below(100));
  }

  /** The process joins the coordinator as soon as there is one. */
  joinsLater(worker: Worker, delay: number): void {
    this.clock.later(delay, () => {
      const { id } = worker;
      const frozen = worker.frozenUntil - this.clock.now;
      if (!worker.alive || this.#sessions.get(id)?.worker !== worker) return;
      // Nobody waits as long as it stands still, unless the run is asked to stop.
      if (frozen > (this.stopped ? STOP_MS : 2_000)) this.deserted = true;
      if (this.coordinator.isAway || frozen > 0) {
        this.joinsLater(worker, Math.max(100, frozen));
        return;
      }
      this.#sessions.set(id, sessionOf(worker, true));
      const newest = worker.generation;
      const addresses = { dataAddress: id, localAddress: '', machine: '', sharedMemory: '' };
      const processor = {
        instructionSets: [...this.#processors.of(id)],
        onlyIsa: newest > 0 ? worker.isa : '',
      };
      const member = { id, host: 'h', pid: 1, ...addresses, ownAccord: !isLaunched(id) };
      this.coordinator.happens({ type: 'joined', newest, ...member, ...processor });
    });
  }

  /** The connection of a worker with the coordinator breaks, and both live: it joins again. */
  breakSession(worker: Worker): void {
    const { id } = worker;
    const session = this.#sessions.get(id)!;
    if (!session.open) return;
    this.resets++;
    session.open = false;
    const lost = () => this.coordinator.happens({ type: 'lost', id, reason: 'reset' });
    this.clock.later(1 + this.below(200), () => {
      if (this.#sessions.get(id) === session && !this.coordinator.isAway) lost();
    });
    worker.heard = { standby: null, leave: null };
    this.countHolders();
    this.joinsLater(worker, 100 + this.below(100));
  }

  countHolders(): void {
    // Not all have applied the last step yet; who was away may hold an older one. What a checkpoint has, or every start
    // of the run, nobody needs to hold.
    const { committed, published } = this.witness;
    const oldest = Math.max(committed - 1, (published.at(-1) ?? 0) + 1);
    const holds = ({ worker, cut }: Session) =>
      !cut && worker.alive && worker.held !== null && worker.held.step >= oldest;
    if (![...this.#sessions.values()].some(holds)) this.deserted = true;
  }
}
