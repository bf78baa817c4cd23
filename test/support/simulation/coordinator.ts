/** The coordinator of a simulated run: the rule, what it has on its disk, and its death. */

import type { Orders, Saved } from '../../../src/rpc/proto.js';
import { type Action, type Event, GATHER_MS } from '../../../src/rule/events.js';
import { RunState } from '../../../src/rule/rule.js';
import { checkNothingLost, checkPlaces, checkReleased, checkValidated, leaveBehind } from './checks.js';
import { Records } from './records.js';
import type { State } from './witness.js';
import type { World } from './world.js';

const TICK_MS = 250;
/** A transfer that breaks is told so late. */
const LOST_MS = 4_000;
/** A worker that cannot be reached is given up after this time. */
const UNREACHED_MS = 34_000;

type End = Extract<Action, { type: 'end' }>;

export class Coordinator {
  readonly missed: { step: number; reason: string }[] = [];
  /** How often a step was run again, and how many coordinators have died. */
  again = 0;
  deaths = 0;
  /** How often it got a state from a worker, and gave one to a worker. */
  fetched = 0;
  servings = 0;
  /** How often a run that was asked to stop waited for workers to come back. */
  waits = 0;
  end: End | null = null;
  /** When the first generation started. */
  firstStart = 0;
  /** There is none: it is dead. */
  isAway = false;
  readonly #world: World;
  readonly #tell: ((line: string) => void) | null;
  readonly #records: Records;
  #state: RunState;
  /** It dies after so many more actions; null: it lives on. */
  #diesAfter: number | null = null;
  #isOrphaning = false;
  /** Ends of processes that its launcher tells the next one. */
  readonly #untold: Event[] = [];
  /** Staged checkpoints that are getting their names. */
  readonly #publishing: Saved[] = [];
  #publisherFree = 0;
  /** The last published checkpoint, and the instruction set that its manifest names; step 0: none. */
  #checkpoint: { step: number; path: string; isa: string };

  constructor(world: World, tell: ((line: string) => void) | null) {
    this.#world = world;
    this.#tell = tell;
    const { resumeStep: step, resumePath: path, welcome } = world.settings;
    this.#checkpoint = { step, path, isa: welcome.isa! };
    this.#state = new RunState(world.settings);
    this.#records = new Records(world.witness, world.settings.lastGeneration);
  }

  /** The members of the generation, its number, and how far it is. */
  get state(): Pick<RunState, 'places' | 'generation' | 'phase'> {
    return this.#state;
  }

  /** The state of its checkpoint, for a worker that does not see the run folder; null: it is dead. */
  served(step: number): State | null {
    if (this.isAway || this.#checkpoint.step !== step) return null;
    this.servings++;
    return this.#world.checkpoint(this.#checkpoint.path);
  }

  begin(): void {
    this.happens({ type: 'listening' });
  }

  everyTick(): void {
    this.#world.clock.later(TICK_MS, () => {
      this.happens({ type: 'tick' });
      this.everyTick();
    });
  }

  tellToStop(): void {
    this.happens({ type: 'stop', exitCode: 143, reason: 'told' });
  }

  /** The launcher tells it; if it is dead, the next one. */
  hears(event: Event): void {
    if (this.isAway) this.#untold.push(event);
    else this.happens(event);
  }

  happens(event: Event): void {
    if (this.end !== null || this.isAway) return;
    if (event.type !== 'heartbeat' && event.type !== 'tick') this.#say('->', event);
    const actions = this.#state.handle(event, this.#world.clock.now);
    const isLast = actions.some(({ type }) => type === 'end');
    for (const action of actions) {
      this.#say('  ', action);
      this.#act(action);
      if (this.#diesAfter === null || isLast || this.#diesAfter-- > 0) continue;
      this.#dies();
      return;
    }
  }

  /** Its process will be killed in the middle of what it does, alone or with its launcher. */
  dieSoon(withLauncher: boolean): void {
    this.#diesAfter ??= this.#world.below(8);
    this.#isOrphaning ||= withLauncher;
  }

  /** Another one takes its place; the workers keep what they hold. */
  #dies(): void {
    const world = this.#world;
    this.#tell?.(`${world.clock.now} the coordinator dies`);
    this.isAway = true;
    this.#diesAfter = null;
    this.deaths++;
    world.loseCoordinator();
    const isOrphaning = this.#isOrphaning;
    this.#isOrphaning = false;
    if (isOrphaning) {
      this.#untold.length = 0;
      world.processes.loseLauncher();
    }
    const [first] = this.#publishing.splice(0);
    if (first !== undefined && world.chance(0.5)) this.#named(first);
    world.clock.later(100 + world.below(3_000), () => this.#returns(isOrphaning));
  }

  /** @param byLaunch Whether another launcher starts it, which knows nothing of the one before. */
  #returns(byLaunch: boolean): void {
    const world = this.#world;
    this.isAway = false;
    this.#publisherFree = world.clock.now;
    world.lastFault = Math.max(world.lastFault, world.clock.now);
    const { step, path, isa } = this.#checkpoint;
    if (step === world.settings.steps) {
      this.end = { type: 'end', exitCode: 0, reason: 'nothing is left to do', fault: null };
      return;
    }
    const resumed = { resumeStep: step, resumePath: path, welcome: { ...world.settings.welcome, isa } };
    const { lastGeneration, former } = this.#records.left();
    const members = byLaunch ? world.processes.living(former.members) : former.members;
    const arithmetic = members.length > 0 ? former.arithmetic : null;
    this.#state = new RunState({
      ...{ ...world.settings, ...resumed, lastGeneration },
      former: { ...former, members, arithmetic },
    });
    this.begin();
    if (byLaunch) world.processes.launchAgain(members);
    for (const event of this.#untold.splice(0)) this.happens(event);
    if (world.stopped) this.tellToStop();
  }

  #say(arrow: string, what: object): void {
    const { now } = this.#world.clock;
    this.#tell?.(`${now} ${this.#state.phase} ${arrow} ${JSON.stringify(what).slice(0, 240)}`);
  }

  #act(action: Action): void {
    const world = this.#world;
    const { witness } = world;
    switch (action.type) {
      case 'send': {
        const { start, commit, stop } = action.message;
        const orders = start ?? commit;
        if (orders) witness.orders(orders as Orders);
        if (stop && action.to !== null) checkReleased(world, action.to);
        if (commit && Number(commit.step) < witness.committed) this.again++;
        world.send(action.to, action.message);
        break;
      }
      case 'cut':
        if (action.mayReturn) world.parts(action.id);
        else world.cut(action.id);
        break;
      case 'refuse':
        world.refuse(action.id);
        break;
      case 'journal':
        this.#records.journal(action);
        leaveBehind(world);
        break;
      case 'gather':
        world.clock.later(GATHER_MS, () => this.happens({ type: 'gathered' }));
        break;
      case 'commit':
        witness.commits(action.step, action.prepared, world.settings.totalSlots);
        this.#records.commit(action);
        if (this.#state.phase === 'RUNNING' || this.#state.phase === 'FORMING') checkPlaces(world);
        break;
      case 'started': {
        if (this.firstStart === 0) this.firstStart = world.clock.now;
        const { generation, places } = this.#state;
        const ids = places.map(({ id }) => id);
        this.#records.started(generation, action.firstStep - 1, ids);
        checkNothingLost(world, action.firstStep - 1);
        witness.starts(generation, action.firstStep - 1, world.heldBy(ids));
        break;
      }
      case 'validation':
        witness.validates(action.step);
        break;
      case 'fetch':
        this.#fetch(action.member.id, action.offered.step, action.fetch);
        break;
      case 'publish':
        checkValidated(world, action.saved.step);
        this.#publish(action.saved);
        break;
      case 'notSaved':
        this.missed.push(action.missed);
        break;
      case 'stopping':
        if (action.awaited.length > 0) this.waits++;
        break;
      case 'end':
        this.end = action;
        break;
    }
  }

  /** Gets what a worker offers, and writes it. One that has died gets and tells nothing any more. */
  #fetch(id: string, step: number, fetch: number): void {
    const world = this.#world;
    const life = this.deaths;
    const fault = { code: 'ERR_CHECKPOINT_WRITE', message: 'refused', hint: null } as const;
    const fails = () => {
      if (this.deaths === life) this.happens({ type: 'notFetched', fetch, fault });
    };
    // A firewall closes its port, which may cost the last checkpoint, too.
    if (world.disk.refuses && world.chance(0.1)) {
      world.lastFault = world.clock.now + UNREACHED_MS;
      world.clock.later(UNREACHED_MS, fails);
      return;
    }
    world.whenAnswering(id, 1 + world.below(200), () => {
      const offer = world.offerOf(id);
      const isFound = offer?.state.step === step;
      if (isFound && !this.isAway && this.deaths === life) offer.isBegun = true;
      world.whenAnswering(id, world.below(200), () => {
        const isThere = isFound && world.offerOf(id) === offer;
        if (this.isAway || this.deaths !== life) {
          if (isThere) offer.end('broken');
          return;
        }
        // The network fails for a moment.
        const isBroken = isThere && offer.transfers === 1 && world.below(20) === 0;
        if (isThere) offer.end(isBroken ? 'broken' : 'sent');
        const failure = { ...fault, hint: '' };
        if (!isThere || isBroken) world.clock.later(LOST_MS, fails);
        else if (world.disk.refusal()) this.happens({ type: 'notSaved', id, notSaved: { step, failure } });
        else {
          this.fetched++;
          const folder = String(offer!.state.value);
          this.happens({ type: 'saved', id, saved: { step, folder, seconds: 1, stallSeconds: 0, bytes: 1 } });
        }
      });
    });
  }

  #publish(saved: Saved): void {
    const { clock, below } = this.#world;
    const { step } = saved;
    this.#publishing.push(saved);
    this.#publisherFree = Math.max(this.#publisherFree, clock.now) + 1 + below(100);
    const fault = { code: 'ERR_CHECKPOINT_WRITE', message: 'refused', hint: null } as const;
    const refused = this.#world.disk.refusal();
    clock.later(this.#publisherFree - clock.now, () => {
      const at = this.#publishing.indexOf(saved);
      // It was being published by a coordinator that has died.
      if (at < 0) return;
      this.#publishing.splice(at, 1);
      if (refused) {
        this.happens({ type: 'notPublished', step, fault });
        return;
      }
      const { path } = this.#named(saved);
      this.happens({ type: 'published', checkpoint: { step, path, seconds: 1, stallSeconds: 0, bytes: 1 } });
    });
  }

  #named({ step, folder }: Saved): { path: string } {
    this.#world.witness.publishes({ step, value: Number(folder) });
    const isa = this.#records.arithmetic?.replace('isa ', '') ?? '';
    this.#checkpoint = { step, path: `${step}:${folder}`, isa };
    return this.#checkpoint;
  }
}
