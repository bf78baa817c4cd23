/** The messages of the newest generation that wait to be taken, in the order of the protocol. */
import { OrchestratorError } from '../errors.js';
import type { CoordinatorMessage, Formation } from '../rpc/proto.js';
import { Regrouped } from './interruptions.js';

/** Messages of a generation; others are for the session. */
export type MessageKind = Exclude<
  NonNullable<CoordinatorMessage['message']>,
  'form' | 'stop' | 'drain' | 'waiting' | 'welcome'
>;

export class Inbox {
  readonly #messages: CoordinatorMessage[] = [];
  #generation = 0;
  #newest = 0;
  #regrouping = new AbortController();
  #wake = () => {};
  #ended: Error | null = null;

  /** The generation in which this worker is; 0 before the first. */
  get generation(): number {
    return this.#generation;
  }

  /** The newest generation that it has heard of. */
  get newest(): number {
    return this.#newest;
  }

  /**
   * Aborted with Regrouped as soon as a newer generation than this worker's forms, with this worker or without it, or
   * with the error that `end` was given.
   */
  get regrouped(): AbortSignal {
    return this.#regrouping.signal;
  }

  put(message: CoordinatorMessage): void {
    // Generations only increase; an older message belongs to a generation that no longer exists.
    if (message.generation < this.#newest) return;
    this.#newest = message.generation;
    this.#messages.push(message);
    this.#wake();
    if (message.form) this.#regrouping.abort(new Regrouped());
  }

  /** A generation has formed without this worker, which may have been in the one before. */
  leftOut(generation: number): void {
    if (this.#generation === 0 || generation <= this.#newest) return;
    const formed = this.#messages.findIndex(({ form }) => form);
    if (formed >= 0) this.#messages.splice(formed);
    this.#regrouping.abort(new Regrouped());
    this.#wake();
  }

  /**
   * Waits for the next generation and enters it. What is left of those before it is dropped.
   *
   * @param check Called before each look; what it throws ends the waiting.
   */
  async formation(workerId: string, check: () => void): Promise<Formation> {
    for (;;) {
      check();
      const last = this.#messages.findLastIndex(({ form }) => form);
      if (last >= 0) {
        const { generation, form } = this.#messages.splice(0, last + 1).at(-1)!;
        this.#generation = generation;
        this.#regrouping = new AbortController();
        const rank = form!.members.findIndex(({ id }) => id === workerId);
        return { ...form!, rank };
      }
      this.#messages.length = 0;
      await this.#arrival();
    }
  }

  /**
   * The next message, which must be of this kind. Rejects with Regrouped if a newer generation forms instead, and at
   * the end with its error.
   *
   * @throws OrchestratorError ERR_PROTOCOL if it is of another kind.
   */
  async next<K extends MessageKind>(kind: K): Promise<NonNullable<CoordinatorMessage[K]>> {
    while (this.#messages.length === 0) {
      this.regrouped.throwIfAborted();
      await this.#arrival();
    }
    if (this.#messages[0]!.form) throw new Regrouped();
    const message = this.#messages.shift()!;
    const body = message[kind];
    if (body) return body;
    throw new OrchestratorError(
      'ERR_PROTOCOL',
      `The coordinator sent ${message.message} where ${kind} was expected`,
    );
  }

  /** Resolves when a message arrives; rejects at the end. */
  async #arrival(): Promise<void> {
    if (this.#ended !== null) throw this.#ended;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Whoever waits for a message looks again. */
  wake(): void {
    this.#wake();
  }

  /** Whoever waits, or will, gets the error. */
  end(error: Error): void {
    this.#ended ??= error;
    this.#wake();
    this.#regrouping.abort(error);
  }
}
