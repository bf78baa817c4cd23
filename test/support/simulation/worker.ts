/** A worker as the coordinator sees it: it holds a state, follows the protocol, takes its time, and may die. */
import type { Form } from '../../../src/rpc/generated/orchestrator/v1/Form.js';
import type { FromCoordinator, Orders, Prepared, Ready, Sync } from '../../../src/rpc/proto.js';
import type { SharedMemory } from './memory.js';
import { Saver } from './saver.js';
import { INITIAL, next, type State } from './witness.js';
import type { World } from './world.js';

/** A message of a worker: `{ type: 'prepared', body: {...} }`. */
export interface Said {
  type: string;
  body: object;
}

export class Worker {
  readonly id: string;
  /** Whether it sees the run folder; else the coordinator writes the checkpoints from what it offers. */
  readonly sees: boolean;
  /** The state that it shares with others; null: it has one of its own. */
  shared: SharedMemory | null = null;
  /** Why it cannot share memory; '' if it can. */
  readonly problem: string;
  #own: State | null = null;
  /** What it held when its generation formed. */
  before: number | null = null;
  generation = 0;
  rank = -1;
  alive = true;
  /** The launcher that has started it is dead, and nobody tells of its end. */
  isOrphan = false;
  /** It has asked to leave. */
  leaving = false;
  /** The instruction set that it has taken on, and whether it has built its engine with it. */
  isa = '';
  #built = false;
  /**
   * The step of the run's state that it holds, as it knows: a generation has started with it, a member of one has given
   * it, or its update to it has begun. Others may be further with a state that is shared. Null: it holds none of the run.
   */
  #ofRun: number | null = null;
  /** When the coordinator heard that it stands by, and that it wants to leave. */
  heard: { standby: number | null; leave: number | null } = { standby: null, leave: null };
  /** It does nothing until then. */
  frozenUntil = 0;
  /** The run has gone back to an earlier step than it holds while it stood still, and it has had no place since. */
  isLeftBehind = false;
  readonly saver: Saver;
  readonly #world: World;
  readonly #speed: number;
  #slots: number[] = [];
  #addresses: string[] = [];
  /** From where it loads the state, if it is to and nobody has what is shared. */
  #source: Sync = {};
  /** Its generation has ended, and it has no place in the next. */
  isOut = false;
  /** The message that it waits for. */
  #expects: 'sync' | 'start' | 'commit' | null = null;
  /** The step that it has computed last. */
  #computed = 0;
  #draining = false;
  /** When an update that has begun is over: it is never interrupted. */
  #updatedAt = 0;

  constructor(world: World, id: string, problem: string, sees: boolean) {
    this.id = id;
    this.sees = sees;
    this.problem = problem;
    this.#world = world;
    this.#speed = 1 + world.below(100);
    this.saver = new Saver(world, this);
  }

  /** What it holds; null while it is being loaded, too. */
  get held(): State | null {
    return this.shared === null ? this.#own : this.shared.state;
  }

  set held(state: State | null) {
    if (this.shared === null) this.#own = state;
    else this.shared.state = state;
  }

  receive(message: FromCoordinator): void {
    const generation = Number(message.generation);
    if (message.stop) this.#world.exits(this, Number(message.stop.exitCode));
    else if (message.drain) this.#draining = true;
    else if (message.welcome) this.#welcomed(message.welcome.isa!);
    else if (message.declined) this.saver.declined(Number(message.declined.number));
    else if (message.waiting && generation > this.generation) this.leaveGeneration();
    else if (message.form && generation > this.generation) this.#form(message.form, generation);
    else if (generation === this.generation) this.#take(message);
  }

  /**
   * By its first coordinator, or by one that has taken the place of another; or before the first generation, because it
   * is to compute with another instruction set.
   */
  #welcomed(isa: string): void {
    this.#draining = false;
    if (this.generation === 0 && isa !== this.isa) {
      this.isa = isa;
      this.#built = false;
    }
    this.after(this.#built ? 0 : this.#world.below(2_000), () => {
      if (this.generation === 0 && isa !== this.isa) return;
      this.#built = true;
      const standing = { withoutRunFolder: !this.sees, arithmetic: `isa ${this.isa}` };
      const held = this.#ofRun === null ? null : { step: this.#ofRun };
      this.say('standby', { ...standing, held, shares: this.shared !== null });
      if (this.leaving) this.say('leave', { exitCode: 143 });
      this.saver.remind();
    });
  }

  /** Only what it waits for: the rest is doubled. */
  #take({ sync, start, commit }: FromCoordinator): void {
    const expects = this.#expects;
    if (sync && expects === 'sync') this.#sync(sync);
    else if (start && expects === 'start') this.#start(start as Orders);
    else if (expects === 'commit' && commit?.step === this.#computed) this.#apply(commit as Orders);
  }

  #start(orders: Orders): void {
    this.#ofRun = this.held!.step;
    this.#follow(orders);
  }

  /** It was in one that has ended, and has no place in the next. */
  leaveGeneration(): void {
    this.isOut = true;
    this.#expects = null;
  }

  /** Leaves the generation before, and says what it holds. */
  #form({ members = [] }: Form, generation: number): void {
    this.generation = generation;
    this.isOut = false;
    this.rank = members.findIndex(({ id }) => id === this.id);
    const { firstSlot = 0, endSlot = 0 } = members[this.rank]!;
    this.#slots = Array.from({ length: endSlot - firstSlot }, (_, i) => firstSlot + i);
    this.#addresses = members.map(({ dataAddress }) => dataAddress!);
    this.#expects = null;
    const updating = Math.max(0, this.#updatedAt - this.#world.clock.now);
    this.during(updating + this.#world.below(50), () => {
      this.before = this.held?.step ?? null;
      this.#expects = 'sync';
      const sharing = this.#world.shares ? { problem: this.problem } : null;
      const held = this.shared !== null || this.held === null ? null : { step: this.held.step };
      this.say('formed', { device: null, sharing, held });
    });
  }

  say(type: string, body: object): void {
    this.#world.say(this, { type, body });
  }

  /** Runs later unless the process has ended. */
  after(delay: number, run: () => void): void {
    this.#world.clock.later(delay, () => {
      if (!this.alive) return;
      const frozen = this.frozenUntil - this.#world.clock.now;
      if (frozen > 0) this.after(frozen, run);
      else run();
    });
  }

  /** Runs later unless the generation has ended for it. */
  during(delay: number, run: () => void): void {
    const { generation } = this;
    this.after(delay, () => {
      if (this.generation === generation && !this.isOut) run();
    });
  }

  #sync(sync: Sync): void {
    const { keep, holders, checkpoint, served, shared } = sync;
    this.#expects = null;
    if (shared) {
      this.#source = sync;
      for (const present of this.#world.meet(this, this.#addresses)) present.join();
    } else if (this.shared !== null) {
      const failure = { code: 'ERR_SHARED_MEMORY', message: 'it shares its state', hint: '' };
      this.say('failure', failure);
    } else if (keep) this.#ready();
    else if (holders)
      this.#pull(
        Number(holders.step),
        holders.ranks!.map((rank) => this.#addresses[rank]!),
      );
    else if (served) this.#getServed(Number(served.step));
    else {
      this.#forget();
      this.#load(checkpoint);
    }
  }

  /** All members share the state. If there is none, rank 0 loads it, and all are ready after that. */
  join(): void {
    const { checkpoint, served } = this.#source;
    this.#ofRun = this.held?.step ?? null;
    if (this.held !== null) this.#ready();
    else if (this.rank !== 0) this.#waitForState();
    else if (served) this.#getServed(Number(served.step));
    else this.#load(checkpoint);
  }

  #load(checkpoint: string | undefined): void {
    if (checkpoint !== undefined && !this.sees) throw new Error(`${this.id} does not see ${checkpoint}`);
    this.during(this.#world.below(200), () => {
      this.held = checkpoint === undefined ? INITIAL : this.#world.checkpoint(checkpoint);
      this.#ready();
    });
  }

  #waitForState(): void {
    this.during(20, () => {
      if (this.held === null) this.#waitForState();
      else this.#ready();
    });
  }

  /**
   * Takes the state of a step from the memory of others, who may load it first. Where one of them is gone, that never
   * ends: the generation does.
   */
  #pull(step: number, ids: readonly string[]): void {
    this.#forget();
    const get = () => {
      if (this.#isCutOff()) return;
      const states = ids.map((id) => this.#world.memoryOf(id));
      if (states.some((state) => state?.step !== step)) {
        this.during(20, get);
        return;
      }
      this.#world.transfers++;
      this.held = states[0]!;
      this.#ofRun = step;
      this.#ready();
    };
    this.during(this.#world.below(200), get);
  }

  /** Takes the state of a checkpoint from the coordinator. Where that dies, the next one forms another generation. */
  #getServed(step: number): void {
    this.#forget();
    this.during(this.#world.below(200), () => {
      const state = this.#world.coordinator.served(step);
      if (state === null) return;
      this.held = state;
      this.#ready();
    });
  }

  /** What it held is overwritten. */
  #forget(): void {
    this.held = null;
    this.#ofRun = null;
    this.#world.countHolders();
  }

  #ready(): void {
    const { step, value } = this.held!;
    this.#expects = 'start';
    this.say('ready', { step, configHash: 'c', stateHash: String(value) } satisfies Partial<Ready>);
  }

  #follow({ step, validate, checkpoint, stop }: Orders): void {
    this.#expects = null;
    if (checkpoint) this.say('applied', { step, stateHash: this.#world.stateHash(this) });
    const validating = validate ? this.#world.below(400) : 0;
    this.during(validating, () => {
      if (validate) this.say('validated', { step, losses: [], seconds: 1, abandoned: this.#draining });
      const goOn = () => (stop ? this.#finish() : this.#compute(step + 1));
      if (checkpoint && this.rank === 0) this.saver.save(step, goOn);
      else goOn();
    });
  }

  #compute(step: number): void {
    this.during(this.#speed + this.#world.below(50), () => {
      this.#world.witness.computes(step, this.held);
      if (this.shared === null && this.#isCutOff()) return;
      const { value } = this.held!;
      const slots = this.#slots.map((slot) => ({
        slot,
        losses: [value + slot],
        samples: [slot],
        skipped: [],
      }));
      const numbers = { generation: this.generation };
      this.#expects = 'commit';
      this.#computed = step;
      this.say('prepared', {
        step,
        slots,
        gradientNorm: value,
        nonFinite: [],
        attention: [],
        numbers,
      } as object as Prepared);
    });
  }

  /** Where links are broken no exchange ends: it says so, and waits for the next generation. */
  #isCutOff(): boolean {
    const rank = this.#world.network.unreachable(this, this.#addresses);
    if (rank !== null) this.say('suspect', { rank, why: 'it cannot be reached' });
    return rank !== null;
  }

  #apply(orders: Orders): void {
    this.#expects = null;
    const update = this.#world.below(30);
    this.#updatedAt = this.#world.clock.now + update;
    const { generation, shared } = this;
    this.#ofRun = orders.step;
    shared?.begin(orders.step, generation);
    this.after(update, () => {
      // An update that it has left, the others complete.
      if (shared !== null && this.isOut) return;
      if (shared !== null) shared.finish(orders.step, this.#world.witness);
      else {
        this.#world.witness.applies(orders.step, this.held, generation);
        this.held = next(this.held!);
      }
      if (this.generation === generation && !this.isOut) this.#follow(orders);
    });
  }

  #finish(): void {
    if (!this.saver.isWriting) this.say('finished', {});
    else this.during(20, () => this.#finish());
  }
}
