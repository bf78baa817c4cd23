/** The workers that have joined a run: who they are, who has built its engine, and when each was last heard. */
import type { Member } from './events.js';

interface Joined {
  member: Member;
  /** It has built its engine, and may be given a place. */
  standby: boolean;
  /** When it was last heard. */
  seen: number;
}

/** "worker local-1 (pid 4242 on host)"; of a place in a generation "rank 1 (pid 4242 on host)". */
export function nameOf({ id, pid, host, rank }: Member & { rank?: number }): string {
  return `${rank === undefined ? `worker ${id}` : `rank ${rank}`} (pid ${pid} on ${host})`;
}

export class Members {
  readonly #joined = new Map<string, Joined>();

  get size(): number {
    return this.#joined.size;
  }

  /** Those that may be given a place, in the order of their ids, in which ranks are given. */
  get standby(): Member[] {
    const byId = (a: Member, b: Member) => a.id.localeCompare(b.id, 'en', { numeric: true });
    return this.#all(({ standby }) => standby).sort(byId);
  }

  /** Those that have joined and are still building. */
  get building(): Member[] {
    return this.#all(({ standby }) => !standby);
  }

  has(id: string): boolean {
    return this.#joined.has(id);
  }

  get(id: string): Member | null {
    return this.#joined.get(id)?.member ?? null;
  }

  join(member: Member, now: number): void {
    this.#joined.set(member.id, { member, standby: false, seen: now });
  }

  /** False if it stood by already. */
  standBy(id: string): boolean {
    const joined = this.#joined.get(id)!;
    const first = !joined.standby;
    joined.standby = true;
    return first;
  }

  leave(id: string): void {
    this.#joined.delete(id);
  }

  heard(id: string, now: number): void {
    this.#joined.get(id)!.seen = now;
  }

  /** This process was paused for a time, in which it could hear nobody. */
  paused(ms: number): void {
    for (const joined of this.#joined.values()) joined.seen += ms;
  }

  /** A member that was not heard for longer than this, and for how long. */
  silent(now: number, limitMs: number): { id: string; ms: number } | null {
    for (const [id, { seen }] of this.#joined) if (now - seen > limitMs) return { id, ms: now - seen };
    return null;
  }

  #all(wanted: (joined: Joined) => boolean): Member[] {
    return [...this.#joined.values()].filter(wanted).map(({ member }) => member);
  }
}
