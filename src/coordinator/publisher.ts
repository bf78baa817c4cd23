/** Gives staged checkpoints their final names, one after another, and removes those that are no longer kept. */
import { join } from 'node:path';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { type Retention, recoverStore, removeStaged, retainCheckpoints } from '../checkpoint/retention.js';
import { publishCheckpoint, stagedIn } from '../checkpoint/store.js';
import { faultOf } from '../fault.js';
import { faultPoint } from '../fault-points.js';
import { freeBytes, reasonOf } from '../files/io.js';
import type { Saved } from '../rpc/proto.js';
import type { Event } from '../rule/events.js';

export class Publisher {
  readonly #root: string;
  readonly #retention: Retention;
  readonly #losses: ReadonlyMap<number, number>;
  readonly #warn: (message: string) => void;
  /** Resolves when no checkpoint is being published. */
  #last: Promise<void> = Promise.resolve();

  /** @param losses of the validations so far, by step; they may be added to. */
  constructor(
    runDir: string,
    retention: Retention,
    losses: ReadonlyMap<number, number>,
    warn: (message: string) => void,
  ) {
    this.#root = join(runDir, CHECKPOINTS);
    this.#retention = retention;
    this.#losses = losses;
    this.#warn = warn;
  }

  /** Publishes after those before it, and then tells how it went. */
  publish(saved: Saved, told: (event: Event) => void): void {
    this.#last = this.#last.then(() => this.#publish(saved)).then(told);
  }

  async #publish({ step, folder, seconds, stallSeconds, bytes }: Saved): Promise<Event> {
    let path: string;
    try {
      faultPoint('publishing', step);
      path = await publishCheckpoint(this.#root, folder);
      faultPoint('published', step);
    } catch (error) {
      return { type: 'notPublished', step, fault: faultOf(error) };
    }
    await retainCheckpoints(this.#root, this.#retention, step, this.#losses).catch((error) => {
      this.#warn(`Old checkpoints in ${this.#root} could not be removed: ${reasonOf(error)}`);
    });
    // Nobody else knows of those that an earlier coordinator has ordered.
    await removeStaged(this.#root, (staged) => staged <= step).catch(() => {});
    const free = await freeBytes(this.#root).catch(() => null);
    const checkpoint = {
      step,
      path,
      seconds,
      stallSeconds,
      bytes,
      ...(free !== null && { freeBytes: free }),
    };
    return { type: 'published', checkpoint };
  }

  /**
   * Removes what workers had staged that are gone. What this process is writing for one of them, it removes itself if it
   * fails. What cannot be removed is removed when the run ends.
   */
  sweep(keep: readonly string[]): void {
    const removes = (name: string) => !keep.includes(name) && stagedIn(name)?.pid !== process.pid;
    removeStaged(this.#root, (_, name) => removes(name)).catch((error) => {
      this.#warn(`What was left of a checkpoint in ${this.#root} could not be removed: ${reasonOf(error)}`);
    });
  }

  /**
   * Waits for what is being published, and removes what nobody will publish. If that cannot be removed, or is
   * still being written, the next start removes it.
   */
  async close(): Promise<void> {
    await this.#last;
    await recoverStore(this.#root).catch(() => []);
  }
}
