/** The processes of a simulated run, and its launchers, which start them and tell how they end. */
import type { Event } from '../../../src/rule/events.js';
import { HEARTBEAT } from '../rule-script.js';
import { type Session, sessionOf } from './session.js';
import { Worker } from './worker.js';
import type { World } from './world.js';

const HEARTBEAT_MS = 500;
/** A launcher waits so long for a worker of the one before that lives. */
const RETURN_MS = 15_000;

/** Whether the launcher has started it; others have come by themselves. */
export const isLaunched = (id: string) => id.startsWith('w');

export class Processes {
  /** How often a launcher died with its coordinator. */
  launches = 0;
  /** Whether at some time too few processes lived, or would be started, that wanted to stay. */
  wasShort = false;
  readonly #world: World;
  readonly #sessions: Map<string, Session>;
  /** Counts launchers: one that is dead starts nothing. */
  #launch = 0;
  #isLaunching = true;
  #restarts: number;
  /** Whether a launcher says how processes end. */
  readonly #supervised: boolean;
  /** How many processes live, or will be started, and how many of them the launcher has started. */
  #living = 0;
  #launched = 0;

  /** @param sessions The newest session of every id. */
  constructor(world: World, sessions: Map<string, Session>) {
    this.#world = world;
    this.#sessions = sessions;
    this.#restarts = world.chance(0.7) ? 6 : 0;
    this.#supervised = world.chance(0.5);
  }

  countStaying(): void {
    // The next launcher starts those that are missed.
    if (!this.#isLaunching) return;
    const leaving = [...this.#sessions.values()].filter(({ worker }) => worker.alive && worker.leaving);
    // A run does not wait for strangers when too few of its own workers will come.
    const staying = Math.min(this.#living - leaving.length, this.#launched);
    if (staying < this.#world.settings.minWorkers) this.wasShort = true;
  }

  /** The launcher is dead, too: nobody knows what it knew. Those that it was about to start are not started. */
  loseLauncher(): void {
    this.#launch++;
    this.#isLaunching = false;
    this.launches++;
    for (const { worker } of this.#sessions.values()) worker.isOrphan = true;
  }

  /** Which of these workers live. */
  living(ids: readonly string[]): string[] {
    return ids.filter((id) => this.#sessions.get(id)?.worker.alive);
  }

  /**
   * Another launcher starts its workers: not those of the one before that may come back, in whose places it starts
   * others when they are gone.
   */
  launchAgain(awaited: readonly string[]): void {
    this.#isLaunching = true;
    for (let i = 0; i < this.#world.settings.workers; i++) {
      const id = `w${i}`;
      const former = this.#sessions.get(id)?.worker;
      if (former === undefined || !awaited.includes(id)) this.#replaces(id);
      else {
        const launch = this.#launch;
        this.#world.clock.later(RETURN_MS, () => {
          const session = this.#sessions.get(id)!;
          const isBack = session.worker !== former || session.open;
          if (!isBack && former.alive && launch === this.#launch) this.#replaces(id);
        });
      }
    }
  }

  /** A process is started under this name. It takes the place of one that lives. */
  #replaces(id: string): void {
    const former = this.#sessions.get(id)?.worker;
    if (former?.alive) this.ends(former, { code: 1, signal: null }, false);
    this.starts(id, this.#world.below(500));
  }

  starts(id: string, delay: number): void {
    const world = this.#world;
    this.#living++;
    if (isLaunched(id)) this.#launched++;
    const launch = this.#launch;
    world.clock.later(delay, () => {
      if (isLaunched(id) && launch !== this.#launch) {
        this.#living--;
        this.#launched--;
        return;
      }
      const sees = world.blind === 'none' || (world.blind === 'some' && /^[wx]0/.test(id));
      const worker = new Worker(world, id, world.unable && /^[wx]0/.test(id) ? 'off' : '', sees);
      this.#sessions.set(id, sessionOf(worker, false));
      world.joinsLater(worker, 0);
      const beat = () => {
        if (!worker.alive) return;
        if (worker.frozenUntil <= world.clock.now) worker.say('heartbeat', HEARTBEAT);
        world.clock.later(HEARTBEAT_MS, beat);
      };
      beat();
    });
  }

  ends(worker: Worker, exit: { code: number | null; signal: 'SIGKILL' | null }, restarts: boolean): void {
    if (!worker.alive) return;
    const world = this.#world;
    worker.alive = false;
    this.#living--;
    if (isLaunched(worker.id)) this.#launched--;
    const session = this.#sessions.get(worker.id)!;
    const { id } = worker;
    // What was sent before may arrive, or be lost with the connection.
    const lost = world.chance(0.5) ? 0 : world.below(100);
    world.clock.later(Math.max(lost, 1), () => {
      if (this.#sessions.get(id) !== session || !session.open) return;
      session.open = false;
      world.coordinator.happens({ type: 'lost', id, reason: 'reset' });
    });
    // Those that have come by themselves are not the launcher's.
    const again = restarts && this.#restarts > 0 && (this.#isLaunching || !isLaunched(id));
    const told = world.below(100);
    const launch = this.#launch;
    if (this.#supervised && isLaunched(id) && !worker.isOrphan) {
      world.clock.later(told, () => {
        if (launch !== this.#launch) return;
        const event: Event = { type: 'exited', id, exit: { ...exit, outOfMemory: false }, again };
        world.coordinator.hears(event);
      });
    }
    if (again) {
      this.#restarts--;
      this.starts(id, told + 1 + world.below(2_000));
    }
    this.countStaying();
    world.countHolders();
  }
}
