/** The network of a simulated run: messages that come late, twice or out of order, and a link that breaks. */
import type { Clock } from './clock.js';
import type { Worker } from './worker.js';

/** When the last message arrives in each direction: none overtakes it, except where messages are reordered. */
export interface Arrived {
  up: number;
  down: number;
}

interface Surroundings {
  clock: Clock;
  chance(probability: number): boolean;
  below(n: number): number;
}

export class Network {
  /** How often a worker could not reach another one. */
  breaks = 0;
  readonly #world: Surroundings;
  readonly #doubles: number;
  readonly #reorders: number;
  readonly #longest: number;
  /** The two workers that cannot reach each other, and until when. */
  #broken: { ends: readonly string[]; until: number } = { ends: [], until: 0 };

  constructor(world: Surroundings) {
    this.#world = world;
    this.#doubles = world.chance(0.3) ? 0.1 : 0;
    this.#reorders = world.chance(0.3) ? 0.2 : 0;
    this.#longest = 1 + world.below(100);
  }

  /** A message arrives once and in order, as TCP has it; or doubled, late, and out of order. */
  transmit({ arrived }: { arrived: Arrived }, way: keyof Arrived, deliver: () => void): void {
    const { clock } = this.#world;
    const at = clock.now + 1 + this.#world.below(this.#longest);
    if (this.#world.chance(this.#reorders)) {
      clock.later(at - clock.now + this.#world.below(3 * this.#longest), deliver);
    } else {
      arrived[way] = Math.max(at, arrived[way]);
      clock.later(arrived[way] - clock.now, deliver);
    }
    if (this.#world.chance(this.#doubles)) {
      clock.later(at - clock.now + this.#world.below(1_000), deliver);
    }
  }

  breakLink(ends: readonly [string, string], until: number): void {
    this.#broken = { ends, until };
  }

  /** The rank of the member that the worker cannot reach; -1: others cannot reach each other; null: all can. */
  unreachable(worker: Worker, members: readonly string[]): number | null {
    const { ends, until } = this.#broken;
    if (this.#world.clock.now >= until || !ends.every((id) => members.includes(id))) return null;
    if (!ends.includes(worker.id)) return -1;
    this.breaks++;
    return members.findIndex((id) => id !== worker.id && ends.includes(id));
  }
}
