/** Which workers take part in a run, as its coordinator says. */
import { EventEmitter, once } from 'node:events';
import type { Child } from './children.js';
import type { CoordinatorNotice } from './notices.js';

/** Within this time the workers have returned to a coordinator that was started again. */
const RETURN_MS = 30_000;

export class Members {
  readonly #ids = new Set<string>();
  readonly #changes = new EventEmitter();

  /** From now on this coordinator says it. Workers of the one before stay for as long as they may return. */
  follow(coordinator: Child): void {
    const former = new Set(this.#ids);
    coordinator.process.on('message', ({ member }: CoordinatorNotice) => {
      if (member === undefined) return;
      former.delete(member.workerId);
      if (member.isHere) this.#ids.add(member.workerId);
      else this.#ids.delete(member.workerId);
      this.#changes.emit('change');
    });
    setTimeout(() => {
      for (const id of former) this.#ids.delete(id);
      this.#changes.emit('change');
    }, RETURN_MS).unref();
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** Resolves when the worker takes no part any more. */
  async gone(id: string): Promise<void> {
    while (this.has(id)) await once(this.#changes, 'change');
  }
}
