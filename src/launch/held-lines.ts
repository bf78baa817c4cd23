/** What ssh prints of a host that it cannot reach, which the launcher says in its own words. */

/** Holds back the first lines of a process, as long as each only says again that its host cannot be reached. */
export class HeldLines {
  readonly #tell: (line: string) => void;
  #held: string[] | null = [];

  constructor(tell: (line: string) => void) {
    this.#tell = tell;
  }

  add(line: string, saysUnreachable: boolean): void {
    if (saysUnreachable && this.#held !== null) {
      this.#held.push(line);
      return;
    }
    this.release();
    this.#tell(line);
  }

  /** What was held is told, and all that comes is told at once. */
  release(): void {
    const lines = this.#held ?? [];
    this.#held = null;
    for (const line of lines) this.#tell(line);
  }
}
