/** The answers of all members of a generation to one question. */
import type { Place } from './events.js';

export class Answers<T> {
  readonly #places: readonly Place[];
  readonly #answers = new Map<string, T>();

  constructor(places: readonly Place[]) {
    this.#places = places;
  }

  /** Those that have not answered. */
  get missing(): Place[] {
    return this.#places.filter(({ id }) => !this.#answers.has(id));
  }

  has(id: string): boolean {
    return this.#answers.has(id);
  }

  /**
   * Keeps a member's first answer; another one changes nothing. Returns all in the order of ranks with the one
   * that completes them, otherwise null.
   */
  add(id: string, answer: T): T[] | null {
    if (this.#answers.has(id)) return null;
    this.#answers.set(id, answer);
    return this.#answers.size < this.#places.length
      ? null
      : this.#places.map(({ id }) => this.#answers.get(id)!);
  }

  /** A member whose answer is another than this; null: there is none. */
  dissenter(answer: T): Place | null {
    return this.#places.find(({ id }) => this.has(id) && this.#answers.get(id) !== answer) ?? null;
  }
}
