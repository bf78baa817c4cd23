/** Links between members that broke in a generation, and who is to leave it if all of them live. */

/** A member whose death broke a link is known to be dead by then, or is not heard any more. */
const DECIDE_MS = 1_000;

export class Suspicions {
  /** The two ends of each link that broke. */
  readonly #links = new Map<string, readonly [string, string]>();
  /** Those whose exchange broke, though not by a link of their own. */
  readonly #stuck = new Set<string>();
  #since: number | null = null;

  /** @param other The end of the link that `id` cannot reach; null: no link of its own broke. */
  add(id: string, other: string | null, now: number): void {
    this.#since ??= now;
    if (other === null) {
      this.#stuck.add(id);
      return;
    }
    const ends = [id, other].sort() as [string, string];
    this.#links.set(JSON.stringify(ends), ends);
  }

  /**
   * Those that have most broken links, and of which one is to leave: when all of them were heard after their links
   * broke, so that it is not for the death of one of them. Null as long as that is not known.
   *
   * @param heard When a member was last heard.
   */
  suspects(now: number, heard: (id: string) => number): string[] | null {
    const since = this.#since;
    if (since === null || now - since < DECIDE_MS) return null;
    const ends = [...this.#links.values()].flat();
    const involved = ends.length > 0 ? [...new Set(ends)] : [...this.#stuck];
    if (involved.some((id) => heard(id) <= since)) return null;
    const broken = (id: string) => ends.filter((end) => end === id).length;
    const most = Math.max(...involved.map(broken));
    return involved.filter((id) => broken(id) === most);
  }
}
