/**
 * Who forms the next generation, and when. Where there is none, at the start of a run and when too few workers
 * are left, others are waited for.
 */
import type { Fault } from '../fault.js';
import { named } from '../text/shortened.js';
import { type ExpectedWorker, type Member, type Place, type Settings, STOP_MS } from './events.js';
import { type Held, type Known, Members, nameOf } from './members.js';

/** Time for the workers of the run to join; after that, enough of them will do. */
const JOIN_MS = 60_000;
/** Time for workers that hold the state to return to a coordinator that was started again. */
const RETURN_MS = 15_000;
/** Time in which a worker whose connection broke comes back. */
const RECONNECT_MS = 3_000;
/** Time limit for opening the data and building the engines. Heartbeats tell meanwhile who is alive. */
const BUILD_MS = 1_800_000;
/** From here on the user is told who has not joined, and who is still building, at doubling times. */
const SLOW_JOIN_MS = 5_000;
const SLOW_BUILD_MS = 30_000;
/** Workers on standby wait so long for others that are about to stand by. */
export const DEBOUNCE_MS = 2_000;

/** A worker that was lost. */
interface Away {
  /** What is known of it. */
  member: Known;
  /** When it was lost. */
  at: number;
  /** After which step its process may hold the state of the run, if it lives; null: none. */
  held: Held;
  /** Somebody may start it again. */
  restarts: boolean;
}

export class Rendezvous {
  readonly members = new Members();
  readonly #settings: Settings;
  readonly #saved: () => number;
  #since = 0;
  /** Since when a worker waits for a place in the next generation; null: nobody does. */
  #joinerSince: number | null = null;
  /** When to tell the user next who has not joined, and who is still building, in milliseconds since `#since`. */
  #nextMissing = SLOW_JOIN_MS;
  #nextNote = SLOW_BUILD_MS;
  /** The last worker that was lost while others were waited for, or so that they are. */
  #loss: { id: string; fault: Fault } | null = null;
  /** Whether there was a generation. */
  #formed = false;
  /** Whether the run was asked to stop while it trains. */
  #isStopping = false;
  /** Since when nobody has held the state of a run that is asked to stop, who may come back since; null: somebody holds it. */
  #unheldSince: number | null = null;
  /** Workers of the launcher that have ended and will not be started again. */
  readonly #gone = new Map<string, Known>();
  /** Workers that were lost, and may come again as far as anybody knows. */
  readonly #away = new Map<string, Away>();
  /** Workers of the coordinator before this one that may return. */
  readonly #former: Set<string>;
  /** The workers that the launcher starts, by id, as far as it has said. */
  #launched: ReadonlyMap<string, ExpectedWorker> = new Map();
  /** Workers that have joined at some time. */
  readonly #came = new Set<string>();

  /** @param saved The step of the last checkpoint. */
  constructor(settings: Settings, saved: () => number) {
    this.#settings = settings;
    this.#saved = saved;
    this.#former = new Set(settings.former?.members);
  }

  /**
   * The time of waiting counts from now on: workers may join; or all have joined, and have the time to build; or too
   * few are left.
   */
  begin(now: number): void {
    this.#since = now;
    this.#nextMissing = SLOW_JOIN_MS;
    this.#nextNote = SLOW_BUILD_MS;
  }

  /** The launcher starts these. */
  expect(workers: readonly ExpectedWorker[]): void {
    this.#launched = new Map(workers.map((worker) => [worker.id, worker]));
  }

  /** A worker is lost while others are waited for, or so that they are. */
  lose(id: string, fault: Fault): void {
    this.#loss = { id, fault };
  }

  /** The launcher knows why that worker was lost; false if another one was. */
  explain(id: string, message: string): boolean {
    if (this.#loss?.id !== id) return false;
    this.#loss = { id, fault: { ...this.#loss.fault, message } };
    return true;
  }

  /** The worker's process has ended, or may live with what it holds; no other will take its place. */
  gone(id: string, { mayLive = false } = {}): void {
    this.#gone.set(
      id,
      this.#away.get(id)?.member ?? this.members.get(id) ?? this.#launched.get(id) ?? { id },
    );
    const away = this.#away.get(id);
    if (away) away.restarts = false;
    if (!mayLive) this.forget(id);
  }

  /** A worker has ended or was refused that is none of those that the launcher has now. */
  forget(id: string): void {
    this.#away.delete(id);
    this.#former.delete(id);
  }

  /**
   * A worker is lost. Its process may live where only the connection broke; nobody is known to start one again that no
   * launcher has started.
   */
  lost(member: Known, { mayLive, held }: { mayLive: boolean; held: Held }, now: number): void {
    const { id, ownAccord = false } = member;
    const known = { ...this.#launched.get(id), ...member };
    const away = { member: known, at: now, held: mayLive ? held : null, restarts: !ownAccord };
    if (this.#gone.has(id)) this.#gone.set(id, known);
    else this.#away.set(id, away);
    if (!mayLive) this.#former.delete(id);
    if (this.stopping && !this.members.anyHolds) this.#unheldSince ??= now;
  }

  /** The worker's process has ended, and with it what it held. */
  ended(id: string): void {
    this.#former.delete(id);
    const away = this.#away.get(id);
    if (away?.restarts) away.held = null;
    else this.#away.delete(id);
  }

  /** A worker has joined. */
  came(id: string): void {
    this.#came.add(id);
    this.#gone.delete(id);
    this.#away.delete(id);
  }

  /** This process was paused for a time, which does not count. */
  paused(ms: number): void {
    this.members.paused(ms);
    this.#since += ms;
    if (this.#unheldSince !== null) this.#unheldSince += ms;
    for (const away of this.#away.values()) away.at += ms;
  }

  /** The members of the next generation. */
  get next(): Member[] {
    return this.members.choose(this.#settings.totalSlots);
  }

  /** A worker stands by while there is a generation; false if there is no slot for it. */
  standBy(places: readonly Place[], now: number): boolean {
    if (places.length >= this.#settings.totalSlots) return false;
    this.#joinerSince ??= now;
    return true;
  }

  formed(): void {
    this.#joinerSince = null;
    this.#formed = true;
    this.#loss = null;
  }

  /**
   * The run is to stop after a checkpoint.
   *
   * @param from Since when it waits for those that alone hold the state.
   */
  stops(from: number): void {
    this.#isStopping = true;
    if (!this.members.anyHolds) this.#unheldSince ??= from;
  }

  /** Whether it was. */
  get stopping(): boolean {
    return this.#isStopping;
  }

  /** The fewest workers of a generation. A run that is asked to stop makes do with any. */
  get least(): number {
    return this.stopping ? 1 : this.#settings.minWorkers;
  }

  /**
   * Whether the next generation forms after this step: at once if somebody leaves; if somebody joins, together
   * with others that are about to.
   */
  regroups(places: readonly Place[], now: number): boolean {
    if (this.#joinerSince === null && this.members.leaving.length === 0) return false;
    const next = new Set(this.next.map(({ id }) => id));
    if (next.size < this.#settings.minWorkers) return false;
    const stay = places.filter(({ id }) => next.has(id)).length;
    if (stay < places.length) return true;
    const waited = now - (this.#joinerSince ?? now);
    return next.size > stay && (this.members.building.length === 0 || waited > DEBOUNCE_MS);
  }

  /** How many of the run's workers have not ended for good. */
  get #expected(): number {
    return this.#settings.workers - this.#gone.size;
  }

  /** The run's workers that were lost, have not joined yet, or have ended for good. */
  get absent(): { lost: Known[]; missing: ExpectedWorker[]; ended: Known[] } {
    const isMissed = ({ id, ownAccord = false }: Known) => !ownAccord && !this.members.has(id);
    const isAwaited = ({ id }: Known) => this.#launched.has(id) && !this.#came.has(id) && !this.#gone.has(id);
    const lost = [...this.#away.values()].map(({ member }) => member);
    return {
      lost: lost.filter((one) => isMissed(one) && !isAwaited(one) && !this.#gone.has(one.id)),
      missing: [...this.#launched.values()].filter(isAwaited),
      ended: [...this.#gone.values()].filter(isMissed),
    };
  }

  get #restarting(): number {
    return [...this.#away.values()].filter(({ restarts }) => restarts).length;
  }

  /** Whether the workers of the run still have the time to join this coordinator for the first time. */
  #isStarting(now: number): boolean {
    const returns = (this.#settings.former?.members.length ?? 0) > 0;
    return !this.#formed && now - this.#since <= (returns ? RETURN_MS : JOIN_MS);
  }

  /** Whether workers of the coordinator before this one are waited for. */
  awaitsReturn(now: number): boolean {
    if (this.#formed || this.#former.size === 0 || now - this.#since > RETURN_MS) return false;
    return [...this.#former].some((id) => !this.members.isReady(id));
  }

  /** Whether the connection of one that holds the state has just broken, and it is about to come back. */
  awaitsHolder(now: number): boolean {
    return this.awaitsReturn(now) || this.members.areReturning || this.holdersAway(now).length > 0;
  }

  /**
   * Those with a broken connection that may come back with a state of the run that is newer than the last checkpoint and
   * than what is here.
   *
   * @param now Those for which the run waits now; null: all, however long they are gone.
   */
  holdersAway(now: number | null): Known[] {
    const isAwaited = ({ at }: Away) => {
      if (now === null || now - at <= RECONNECT_MS) return true;
      return this.#unheldSince !== null && now - this.#unheldSince <= STOP_MS;
    };
    const least = Math.max(this.#saved(), this.members.newestHere);
    const holds = ({ held }: Away) => held === 'unknown' || (held !== null && held > least);
    const awaited = [...this.#away.values()].filter((away) => holds(away) && isAwaited(away));
    return awaited.map(({ member }) => member);
  }

  /** Those for which a run waits that is asked to stop, and how long at most. */
  awaited(now: number): { workers: Known[]; ms: number } {
    const away = this.holdersAway(now);
    const isOut = (id: string) => !this.members.has(id) && away.every((one) => one.id !== id);
    const former = this.awaitsReturn(now) ? [...this.#former].filter(isOut) : [];
    const ms = [
      former.length > 0 ? this.#since + RETURN_MS - now : 0,
      away.length > 0 ? Math.max(RECONNECT_MS, (this.#unheldSince ?? 0) + STOP_MS - now) : 0,
    ];
    return { workers: [...away, ...former.map((id) => ({ id }))], ms: Math.max(...ms) };
  }

  /** Whether one that was lost may come again in a moment. */
  awaitsRestart(now: number): boolean {
    const isDue = ({ at, restarts }: Away) => restarts && now - at <= RETURN_MS;
    return this.awaitsHolder(now) || [...this.#away.values()].some(isDue);
  }

  /** Whether those on standby form a generation now, without one before. */
  isFull(now: number): boolean {
    const ready = this.members.standby.length;
    if (ready < this.least || this.awaitsReturn(now)) return false;
    // Who holds the state waits for those that held it, too, and not for others.
    if (!this.#formed && this.members.holders.size > 0) return true;
    if (this.#isStarting(now)) return ready >= this.#expected;
    const waits = !this.#formed || now - this.#since <= DEBOUNCE_MS;
    return this.members.building.length === 0 || !waits;
  }

  /** Why the wait has taken too long, or what the user should know of it. */
  check(now: number): { fault: Fault } | { note: string } | null {
    const { workers, minWorkers, patienceMs } = this.#settings;
    const waited = now - this.#since;
    const { staying, building } = this.members;
    const loss = this.#loss?.fault ?? null;
    if (staying < minWorkers) {
      const timeout: Fault = {
        code: 'ERR_JOIN_TIMEOUT',
        message: `${staying} of ${workers} workers joined within ${JOIN_MS / 1000} s`,
        hint: loss?.message ?? null,
      };
      const mayCome = this.#expected >= minWorkers || staying + this.#restarting >= minWorkers;
      if (mayCome && waited <= (this.#formed ? patienceMs : JOIN_MS)) return this.#noteOfMissing(waited);
      return { fault: loss !== null && (this.#formed || waited <= JOIN_MS) ? loss : timeout };
    }
    if (this.#isStarting(now) && staying < this.#expected) return this.#noteOfMissing(waited);
    const time = `${(waited / 1000).toFixed(0)} s`;
    const builders = building.map(nameOf).join(', ');
    if (waited > BUILD_MS) {
      const message = `These workers were still opening the data or building the model after ${time}: ${builders}`;
      return { fault: { code: 'ERR_JOIN_TIMEOUT', message, hint: null } };
    }
    if (waited < this.#nextNote || builders === '') return null;
    this.#nextNote *= 2;
    return { note: `after ${time} still opening the data or building the model: ${builders}` };
  }

  /** Who has not joined is named, whatever else its launcher has said of it. */
  #noteOfMissing(waited: number): { note: string } | null {
    const { missing } = this.absent;
    if (waited < this.#nextMissing || missing.length === 0) return null;
    this.#nextMissing *= 2;
    const names = named(missing.map(({ name }) => name));
    return { note: `after ${(waited / 1000).toFixed(0)} s not joined yet: ${names}` };
  }
}
