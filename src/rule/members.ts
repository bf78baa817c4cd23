/** The workers that have joined a run: who they are, what may be asked of them, and when each was last heard. */
import type { Heartbeat } from '../rpc/proto.js';
import type { Member } from './events.js';

/** A worker that is at something hangs, or is slow, if its ticks stand for this long: the user is told. */
const STANDING_MS = 10_000;
/** The first slot of a GPU may take so many times that long: its libraries are loaded then. */
const FIRST_TIMES = 10;
/** The last heartbeats of workers that are lost together came within this time. */
const TOGETHER_MS = 500;
/**
 * What a worker is at, in words. One that waits for others and one without work have no ticks; one that waits for its
 * GPU has a tick for each slot.
 */
const WORK: Partial<Record<Heartbeat['stage'], string>> = {
  COMPUTE: 'computing',
  EXCHANGE: 'the exchange of gradients',
  UPDATE: 'the update',
};

/** What a worker was at when it last got on. */
interface Progress {
  stage: Heartbeat['stage'];
  ticks: number;
  /** Since when the ticks stand. */
  since: number;
  /** The user knows that they stand. */
  told: boolean;
}

/** After which step a worker holds the state of the run; null: it holds none. */
export type Held = number | 'unknown' | null;

interface Joined {
  readonly member: Member;
  /** The newest generation that it had heard of when it joined; 0: none. */
  readonly newest: number;
  /** It has built its engine, and may be given a place. */
  standby: boolean;
  /** It reads and writes the files of the run folder. */
  seesFolder: boolean;
  /** The last step after which it is known to hold the state of the run; null: it holds none. */
  held: number | null;
  /** Its memory has had a state, the run's or another, or is shared with others. */
  isOld: boolean;
  /** Its memory is shared with others. */
  shares: boolean;
  /** The exit code with which it asked to leave; null: it stays. */
  leaving: number | null;
  /** When it was last heard. */
  seen: number;
  progress: Progress;
  /** It has got on with computing, so that its next ticks should not take as long as the first. */
  hasComputed: boolean;
}

/** What is known of a worker: its id, and the rest if it has joined this coordinator. */
export type Known = Pick<Member, 'id'> & Partial<Member>;

/** "worker local-1 (pid 4242 on host)"; of a place in a generation "rank 1 (pid 4242 on host)". */
export function nameOf({ id, pid, host, rank }: Known & { rank?: number }): string {
  const called = rank === undefined ? `worker ${id}` : `rank ${rank}`;
  return pid === undefined ? called : `${called} (pid ${pid} on ${host})`;
}

/** The order of ids in which ranks are given: local-2 before local-10. */
const { compare } = new Intl.Collator('en', { numeric: true });

export class Members {
  readonly #joined = new Map<string, Joined>();
  /** The last step that the members of a generation are known to hold, of this coordinator or the one before; 0: none. */
  #newest = 0;

  get size(): number {
    return this.#joined.size;
  }

  /** Those that are on standby or in a generation, and stay. */
  get standby(): Member[] {
    return this.#all()
      .filter(({ standby, leaving }) => standby && leaving === null)
      .map(({ member }) => member);
  }

  /** Whether one holds the newest state of the run (`holdWithout`). */
  get anyHolds(): boolean {
    return this.holdWithout([]);
  }

  /** Those that have joined and are still building. */
  get building(): Member[] {
    return this.#all()
      .filter(({ standby }) => !standby)
      .map(({ member }) => member);
  }

  /** Whether one has joined that was in a generation before, and has not said what it holds. */
  get areReturning(): boolean {
    return [...this.#joined.keys()].some((id) => this.isReturning(id));
  }

  /** Those that have asked to leave. */
  get leaving(): { id: string; exitCode: number }[] {
    const all: { id: string; exitCode: number }[] = [];
    for (const [id, { leaving }] of this.#joined) {
      if (leaving !== null) all.push({ id, exitCode: leaving });
    }
    return all;
  }

  /** How many stay besides this one, and whether one of them holds a state of the run. */
  othersOf(id: string): { others: number; othersHold: boolean } {
    const others = this.#all().filter(({ member, leaving }) => member.id !== id && leaving === null);
    return { others: others.length, othersHold: others.some(({ held }) => held !== null) };
  }

  /** The number of those that stay. */
  get staying(): number {
    return this.#all().filter(({ leaving }) => leaving === null).length;
  }

  has(id: string): boolean {
    return this.#joined.has(id);
  }

  get(id: string): Member | null {
    return this.#joined.get(id)?.member ?? null;
  }

  /**
   * The members of the next generation, in the order of their ids; those that see the run folder come first, because
   * rank 0 writes checkpoints. Those that hold the newest state are taken if there are more than `most`. As long as
   * nobody else holds it, one that wants to leave is needed, to give it to those that stay.
   */
  choose(most: number): Member[] {
    const ready = this.#all().filter(({ standby }) => standby);
    const staying = ready.filter(({ leaving }) => leaving === null);
    const candidates = staying.length > 0 ? staying : ready;
    const all = this.holders;
    const holds = ({ member }: Joined) => all.has(member.id);
    const holders = candidates.filter(holds);
    const needed = holders.length > 0 ? holders : ready.filter(holds).slice(0, 1);
    const others = candidates.filter((one) => !holds(one));
    const chosen = [...needed, ...others].slice(0, most);
    const inOrder = chosen.sort(
      (a, b) => Number(b.seesFolder) - Number(a.seesFolder) || compare(a.member.id, b.member.id),
    );
    return inOrder.map(({ member }) => member);
  }

  /** @param newest The newest generation that it has heard of; 0: none. */
  join(member: Member, now: number, newest = 0): void {
    this.#joined.set(member.id, {
      member,
      newest,
      standby: false,
      seesFolder: true,
      held: null,
      isOld: false,
      shares: false,
      leaving: null,
      seen: now,
      progress: { stage: 'IDLE', ticks: 0, since: now, told: false },
      hasComputed: false,
    });
  }

  /**
   * @param built What it says of itself. If it has stood by before, `held` is not taken from it: what `hold` and
   * `overwrite` have noted since is newer.
   */
  standBy(id: string, built: Pick<Joined, 'seesFolder' | 'isOld' | 'shares' | 'held'>): void {
    const joined = this.#joined.get(id)!;
    const held = joined.standby ? joined.held : built.held;
    Object.assign(joined, { ...built, standby: true, held });
  }

  /** None is on standby any more. Returns all who have joined. */
  buildAgain(): string[] {
    for (const joined of this.#joined.values()) joined.standby = false;
    return [...this.#joined.keys()];
  }

  /** Whether its memory is not as it was when it was built. */
  isOld(id: string): boolean {
    return this.#joined.get(id)?.isOld ?? false;
  }

  /** Whether it shares memory that is not of the newest state of all that are here: not all have applied its last step. */
  isStray(id: string): boolean {
    const { shares, held } = this.#joined.get(id)!;
    return shares && (held === null || held < this.newestHere - 1);
  }

  /** Whether it is on standby or in a generation; it may want to leave. */
  isReady(id: string): boolean {
    return this.#joined.get(id)?.standby ?? false;
  }

  /** The newest generation in which it was before it joined; 0: none. */
  newestOf(id: string): number {
    return this.#joined.get(id)?.newest ?? 0;
  }

  seesFolder(id: string): boolean {
    return this.#joined.get(id)!.seesFolder;
  }

  /** Those that hold the newest state of all that are here: an older one of the run, where nobody has a newer. */
  get holders(): ReadonlySet<string> {
    const newest = this.newestHere;
    const holders = this.#all().filter(({ held }) => held === newest);
    return new Set(holders.map(({ member }) => member.id));
  }

  /** The last step after which one holds the state of the run; -Infinity: none does. */
  get newestHere(): number {
    return Math.max(...this.#all().flatMap(({ held }) => held ?? []));
  }

  /** Whether it holds a state of the run, from a generation or by what it said when it stood by. */
  holdsAny(id: string): boolean {
    return (this.#joined.get(id)?.held ?? null) !== null;
  }

  /** Whether it was in a generation before it joined, and has not said what it holds. */
  isReturning(id: string): boolean {
    return !this.isReady(id) && this.newestOf(id) > 0;
  }

  /** After which step it holds the state of the run, as far as anybody knows. */
  heldBy(id: string): Held {
    return this.isReturning(id) ? 'unknown' : (this.#joined.get(id)?.held ?? null);
  }

  /**
   * Whether a worker that is none of these holds the newest state of the run: that of the last generation, or, before
   * there is one, any that it brought.
   */
  holdWithout(ids: readonly string[]): boolean {
    return this.#all().some(({ held, member: { id } }) => (held ?? -1) >= this.#newest && !ids.includes(id));
  }

  /** The steps of the coordinator before this one count, of which the last may be applied nowhere yet. */
  recover(committed: number): void {
    this.#newest = committed - 1;
  }

  /** These members of the generation hold the state after this step from now on: it has started, or was committed. */
  hold(members: readonly Member[], step: number): void {
    this.#newest = step;
    for (const { id } of members) this.#joined.get(id)!.held = step;
  }

  /** What these hold is overwritten from now on. */
  overwrite(members: readonly Member[]): void {
    for (const { id } of members) this.#joined.get(id)!.held = null;
  }

  wantsToLeave(id: string, exitCode: number): void {
    this.#joined.get(id)!.leaving = exitCode;
  }

  leave(id: string): void {
    this.#joined.delete(id);
  }

  /** When it was last heard. */
  heardAt(id: string): number {
    return this.#joined.get(id)?.seen ?? 0;
  }

  /** The one of them that has joined last. */
  youngest(ids: readonly string[]): string {
    return [...this.#joined.keys()].findLast((id) => ids.includes(id))!;
  }

  heard(id: string, now: number): void {
    this.#joined.get(id)!.seen = now;
  }

  /** What its threads are at, and how much they have done. */
  beats(id: string, { stage, ticks }: Heartbeat, now: number): void {
    const joined = this.#joined.get(id)!;
    const { progress } = joined;
    if (stage !== progress.stage || ticks !== progress.ticks) {
      joined.hasComputed ||= progress.stage === 'COMPUTE' && ticks !== progress.ticks;
      joined.progress = { stage, ticks, since: now, told: false };
    }
  }

  /** When its threads last got on, as far as its heartbeats tell. */
  gotOn(id: string): number {
    return this.#joined.get(id)?.progress.since ?? 0;
  }

  /** What it was at when it was last heard: "computing"; null if it waited, or had nothing to do. */
  workOf(id: string): string | null {
    return WORK[this.#joined.get(id)!.progress.stage] ?? null;
  }

  /** Those that are heard, and whose work has begun to stand for too long: each is returned once. */
  standing(now: number): { id: string; work: string; ms: number }[] {
    const standing: { id: string; work: string; ms: number }[] = [];
    for (const [id, { progress, hasComputed }] of this.#joined) {
      const ms = now - progress.since;
      const isFirst = progress.stage === 'COMPUTE' && !hasComputed;
      const most = STANDING_MS * (isFirst ? FIRST_TIMES : 1);
      const work = ms > most && !progress.told ? this.workOf(id) : null;
      if (work === null) continue;
      progress.told = true;
      standing.push({ id, work, ms });
    }
    return standing;
  }

  /** This process was paused for a time, in which it could hear nobody. */
  paused(ms: number): void {
    for (const joined of this.#joined.values()) {
      joined.seen += ms;
      joined.progress.since += ms;
    }
  }

  /**
   * Those that were not heard for longer than their limit, and for how long. As long as others are about to be, they
   * wait for them: all workers of a machine that is gone are left out together.
   */
  silent(now: number, limitMs: { building: number; built: number }): { id: string; ms: number }[] {
    const silent: { id: string; ms: number }[] = [];
    let [longest, areOthers] = [0, false];
    for (const [id, { seen, standby }] of this.#joined) {
      const ms = now - seen;
      const over = ms - (standby ? limitMs.built : limitMs.building);
      if (over > 0) silent.push({ id, ms });
      else if (over > -TOGETHER_MS) areOthers = true;
      longest = Math.max(longest, over);
    }
    return areOthers && longest <= TOGETHER_MS ? [] : silent;
  }

  /** All who have joined. */
  get present(): Pick<Joined, 'member' | 'standby' | 'leaving'>[] {
    return this.#all();
  }

  #all(): Joined[] {
    return [...this.#joined.values()];
  }
}
