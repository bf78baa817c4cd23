/** The disk of a simulated run: it writes one checkpoint after another, and may refuse what is written. */
import type { World } from './world.js';

export class Disk {
  readonly #world: Pick<World, 'below' | 'chance' | 'clock'>;
  /** The most milliseconds of a checkpoint. */
  readonly #slowest: number;
  readonly #refusals: number;
  /** When it has written all that it was given. */
  #free = 0;

  constructor(world: Pick<World, 'below' | 'chance' | 'clock'>) {
    this.#world = world;
    this.#slowest = world.below(2) * 3_000;
    this.#refusals = world.chance(0.2) ? 0.3 : 0;
  }

  /** Whether it refuses anything at all. */
  get refuses(): boolean {
    return this.#refusals > 0;
  }

  /** Whether it refuses what is written now. */
  refusal(): boolean {
    return this.#world.chance(this.#refusals);
  }

  /** How long a checkpoint takes that is written now, and whether it is refused then. */
  write(): { done: number; refused: boolean } {
    const { clock, below } = this.#world;
    this.#free = Math.max(this.#free, clock.now) + below(this.#slowest + 1);
    return { done: this.#free - clock.now, refused: this.refusal() };
  }
}
