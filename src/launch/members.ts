/** Which workers take part in a run, as its coordinator says. */
import { EventEmitter, once } from 'node:events';
import type { Presence } from '../coordinator/sessions.js';
import type { Child } from './children.js';
import type { CoordinatorNotice } from './notices.js';

/** Within this time the workers have returned to a coordinator that was started again. */
const RETURN_MS = 30_000;

export class Members {
  readonly #ids = new Set<string>();
  /** What was last heard of those that have joined, whichever process of theirs was started last. */
  readonly #last = new Map<string, Presence>();
  /** The processes that have joined, and of which nobody knows whether they have ended. */
  readonly #alive = new Map<string, number>();
  /** Every worker of the run may be waited for. */
  readonly #changes = new EventEmitter().setMaxListeners(0);
  /** The workers of former coordinators that have not returned yet. */
  #former = new Set<string>();
  #returnLimit: NodeJS.Timeout | undefined;

  /** From now on this coordinator says it. Workers of the one before stay for as long as they may return. */
  follow(coordinator: Child): void {
    this.#former = new Set(this.#ids);
    coordinator.process.on('message', ({ member }: CoordinatorNotice) => {
      if (member === undefined) return;
      this.#former.delete(member.workerId);
      const { workerId, presence, pid } = member;
      if (presence === 'released') this.#alive.delete(workerId);
      else this.#alive.set(workerId, pid);
      if (presence === 'here') this.#ids.add(workerId);
      else this.#ids.delete(workerId);
      this.#last.set(workerId, presence);
      this.#changes.emit('change');
    });
    // The time begins again with every coordinator.
    clearTimeout(this.#returnLimit);
    this.#returnLimit = setTimeout(() => {
      for (const id of this.#former) this.#ids.delete(id);
      this.#changes.emit('change');
    }, RETURN_MS).unref();
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** Whether it does not take part because the coordinator told it to leave. */
  isReleased(id: string): boolean {
    return this.#last.get(id) === 'released';
  }

  /** Whether it was left out because nothing was heard of it. */
  isCutOff(id: string): boolean {
    return this.#last.get(id) === 'cutOff';
  }

  /** Whether the process that was started last under this name has joined. */
  hasJoined(id: string): boolean {
    return this.#last.has(id);
  }

  /** The process of the worker that may still run; null: it has ended, was told to end, or has never joined. */
  mayLive(id: string): number | null {
    return this.#alive.get(id) ?? null;
  }

  /** Its process has ended. */
  ended(id: string): void {
    this.#alive.delete(id);
  }

  /** Another process is started under this name. */
  starts(id: string): void {
    this.#last.delete(id);
  }

  /** Whether the worker takes part within this time. */
  async comes(id: string, ms: number): Promise<boolean> {
    const signal = AbortSignal.timeout(ms);
    while (!this.has(id) && !signal.aborted) {
      // It stops listening then: a host may be away for days, and is asked for again and again.
      await once(this.#changes, 'change', { signal }).catch(() => {});
    }
    return this.has(id);
  }

  /** Resolves when the worker takes no part any more: whether it has left because the coordinator told it to. */
  async gone(id: string): Promise<{ isReleased: boolean }> {
    while (this.has(id)) await once(this.#changes, 'change');
    return { isReleased: this.isReleased(id) };
  }
}
