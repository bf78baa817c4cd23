/** The workers of a run and its generations: who has a place, who waits for one, and what follows when one is gone. */
import type { Fault } from '../fault.js';
import type { FromCoordinator, Held, Standby } from '../rpc/proto.js';
import { counted } from '../text/quantities.js';
import { Arithmetic, type Processor } from './arithmetic.js';
import type { Action, Member, Place, Settings } from './events.js';
import { Generation } from './generation.js';
import { type Members, nameOf } from './members.js';
import { Rendezvous } from './rendezvous.js';
import { Sharing } from './sharing.js';
import type { Steps } from './steps.js';

export class Membership {
  readonly rendezvous: Rendezvous;
  readonly members: Members;
  readonly sharing: Sharing;
  readonly #settings: Settings;
  readonly #steps: Steps;
  /** The number of the last generation. */
  #number: number;
  /** The newest generation that a worker has heard of, from this coordinator or the one before. */
  #newest = 0;
  /** Whether this coordinator has formed a generation. */
  #hasFormed = false;
  readonly #arithmetic: Arithmetic;
  #generation: Generation | null = null;
  /** A fault has ended the generation, and the next one forms in a moment, with whoever is there then. */
  #gathering = false;
  /** It would have formed, but waits for a worker that holds the state. */
  #isHeldUp = false;
  /** Workers that were told that there is no slot for them. */
  readonly #waiting = new Set<string>();
  /** Those that were let go and have not ended yet, by id, as they are called. */
  readonly #released = new Map<string, string>();

  constructor(settings: Settings, steps: Steps) {
    this.#settings = settings;
    this.#steps = steps;
    this.#number = settings.lastGeneration;
    this.sharing = new Sharing(settings.mustShare);
    const { welcome, former, onGpus, instructionSets = null } = settings;
    const known = former?.arithmetic ?? null;
    this.#arithmetic = new Arithmetic(welcome.isa || null, known, onGpus, instructionSets);
    this.rendezvous = new Rendezvous(settings, () => steps.checkpoints.last.step);
    this.members = this.rendezvous.members;
  }

  get number(): number {
    return this.#number;
  }

  /** The last one; where losses are gathered, it has ended. */
  get generation(): Generation | null {
    return this.#generation;
  }

  get isHeldUp(): boolean {
    return this.#isHeldUp;
  }

  get gathering(): boolean {
    return this.#gathering;
  }

  /** The first step has begun. */
  get begun(): boolean {
    return this.#steps.committed > this.#settings.resumeStep || (this.#generation?.step ?? 0) > 0;
  }

  /** " at step 9"; empty before the first step. */
  get where(): string {
    return this.begun ? ` at step ${this.#generation?.step || this.#steps.committed + 1}` : '';
  }

  /** The fewest workers of a generation. */
  get least(): number {
    return this.rendezvous.least;
  }

  /** Whether the run was asked to stop while it trains. */
  get stopping(): boolean {
    return this.rendezvous.stopping;
  }

  /** "rank 1 (pid 4242 on host)", also after it is gone; "worker local-1 (...)" of one without a place. */
  name(id: string): string {
    return nameOf(this.#generation?.place(id) ?? this.members.get(id) ?? { id });
  }

  /** Sends to these workers, or to all (null). */
  send(to: readonly string[] | null, message: FromCoordinator): Action {
    return { type: 'send', to, message: { generation: this.#number, ...message } };
  }

  /** @param newest The newest generation that it has heard of. */
  join(member: Member, processor: Processor, newest: number, now: number): Action[] {
    const { id } = member;
    const { workers, maxWorkers } = this.#settings;
    if (this.members.size >= maxWorkers) {
      const message = `worker ${id} is one too many: all ${maxWorkers} workers have joined`;
      return [{ type: 'refuse', id, message }];
    }
    const isFirst = this.members.size === 0;
    this.#released.delete(id);
    this.members.join(member, now, newest);
    this.#newest = Math.max(this.#newest, newest);
    this.rendezvous.came(id);
    const joined = this.#arithmetic.join(nameOf(member), processor, isFirst);
    if ('refusal' in joined) return this.#refuse(id, joined.refusal, now);
    if (this.#generation === null && this.members.size === workers) this.rendezvous.begin(now);
    const { lowers, note } = joined;
    return [
      ...(note === null ? [] : [{ type: 'warn' as const, message: note }]),
      this.#welcome(lowers ? this.members.buildAgain() : [id]),
    ];
  }

  #welcome(ids: readonly string[]): Action {
    return this.send(ids, { welcome: { ...this.#settings.welcome, isa: this.#arithmetic.isa } });
  }

  standBy(id: string, standby: Standby, now: number): Action[] {
    const { arithmetic } = standby;
    if (!this.#hasFormed && this.members.standby.length === 0) this.#arithmetic.forget();
    if (this.#arithmetic.isEarlier(arithmetic)) return [];
    const why = this.#arithmetic.take(arithmetic);
    if (why !== null) return this.#refuse(id, why, now);
    const { withoutRunFolder, held, shares } = standby;
    if (held !== null && this.#steps.recover()) this.members.recover(this.#steps.committed);
    const seesFolder = !withoutRunFolder;
    const memory = { held: this.#useful(held), isOld: held !== null || shares, shares };
    this.members.standBy(id, { seesFolder, ...memory });
    const strays = this.#strays().flatMap((stray) => this.tooLate(stray.id, now));
    const takenIn = this.members.has(id) ? this.#takeIn(id, now) : [];
    return [...strays, ...takenIn, ...this.release()];
  }

  /** The step of a state that a worker holds. One that is later than all committed steps is as good as that of step 0. */
  #useful(held: Held | null): number | null {
    return held !== null && held.step > this.#steps.committed ? 0 : (held?.step ?? null);
  }

  /**
   * Workers on standby that share memory without a state, or with one that others have left behind, while others hold the
   * state of the run. They came from the coordinator before this one. Their memory may be other memory than that of the
   * others, and nothing tells it.
   */
  #strays(): Member[] {
    if (this.#hasFormed || this.members.holders.size === 0) return [];
    return this.members.standby.filter(({ id }) => this.members.isStray(id));
  }

  /** A worker has built, and may have a place. */
  #takeIn(id: string, now: number): Action[] {
    const generation = this.#generation;
    const isLate = this.sharing.isLate(id, this.members, this.#number);
    if (this.#isHeldUp && !isLate) return this.gathered(now);
    if (generation?.place(id)) return [];
    if (isLate) return this.tooLate(id, now);
    if (generation === null) return this.formIfFull(now);
    // It is there when the next generation forms.
    if (this.#gathering) return [];
    if (this.#isOnlyHolder(id, generation)) {
      const message = `${this.name(id)} has come with the state of the run, which the others do not have`;
      return [{ type: 'note', message }, ...this.gather()];
    }
    if (this.rendezvous.standBy(generation.places, now)) return [];
    return this.#waits(id);
  }

  /** Whether it holds a state, and a generation of others is about to start with none but that of a checkpoint. */
  #isOnlyHolder(id: string, generation: Generation): boolean {
    const { holders } = this.members;
    if (!holders.has(id) || generation.at('RUNNING') !== 'later') return false;
    return !generation.places.some((place) => holders.has(place.id));
  }

  /** The members of a generation have reached each other. Returns those on standby that are too late now. */
  reached(generation: Generation): Member[] {
    this.sharing.reached = generation;
    const isLate = (id: string) => this.sharing.isLate(id, this.members, this.#number);
    return this.members.standby.filter(({ id }) => !generation.place(id) && isLate(id));
  }

  /** It may share a state with workers that are gone. The others share another one by now. */
  tooLate(id: string, now: number): Action[] {
    const reason = 'has come back too late: the others share another state';
    return [{ type: 'cut', id, reason }, ...this.depart(id, `${this.name(id)} ${reason}`, now)];
  }

  /** Tells the worker and the user of the run that there is no slot for it. */
  #waits(id: string): Action[] {
    if (this.#waiting.has(id)) return [];
    this.#waiting.add(id);
    const reason = `all ${counted(this.#settings.totalSlots, 'slot')} have a worker`;
    return [
      { type: 'note', message: `${this.name(id)} stays on standby: ${reason}` },
      this.send([id], { waiting: { reason } }),
    ];
  }

  /** A worker that has joined cannot take part, nor can another process in the place of one of the launcher. */
  #refuse(id: string, message: string, now: number): Action[] {
    const isStranger = this.members.get(id)?.ownAccord ?? false;
    this.members.leave(id);
    if (isStranger) this.rendezvous.forget(id);
    else this.rendezvous.gone(id);
    return [{ type: 'refuse', id, message }, ...(this.#generation === null ? this.formIfFull(now) : [])];
  }

  /**
   * A worker is gone. The others form the next generation in a moment; if they are too few, others are waited for.
   *
   * @param message What has happened to it.
   * @param mayLive Whether only its connection is known to have ended.
   */
  depart(id: string, message: string, now: number, { mayLive = false } = {}): Action[] {
    const generation = this.#generation;
    const place = generation?.place(id) ?? null;
    const isNeeded = this.#isNeeded(id);
    const member = this.members.get(id) ?? { id };
    const held = this.members.heldBy(id);
    this.members.leave(id);
    this.#waiting.delete(id);
    this.rendezvous.lost(member, { mayLive, held }, now);
    const { checkpoints, committed } = this.#steps;
    const lost = checkpoints.leave(id, committed);
    if (place !== null && !isNeeded) return [];
    const tell = (what: string): Action[] => {
      // Nobody who could validate it holds the state of a checkpoint that is staged.
      const staged = this.members.anyHolds ? [] : checkpoints.onlyValidating(null);
      return [{ type: 'warn', message: `${message}${what}` }, ...lost, ...staged];
    };
    const fault: Fault = { code: 'ERR_WORKER_LOST', message, hint: null };
    if (generation === null) {
      this.rendezvous.lose(id, fault);
      return [...tell(''), ...this.formIfFull(now)];
    }
    if (place === null && !this.#gathering) return tell('');
    this.rendezvous.lose(id, fault);
    const { length } = this.rendezvous.next;
    if (length >= this.least) {
      const others = length === 1 ? '1 worker goes on' : `${length} workers go on`;
      return [...tell(`; ${others}`), ...this.gather()];
    }
    return tell(`; ${this.#waitForOthers(now)}`);
  }

  /** Too few are left for a generation. Returns what the run does, in words. */
  #waitForOthers(now: number): string {
    this.#generation = null;
    this.#gathering = false;
    this.#isHeldUp = false;
    this.rendezvous.begin(now);
    if (this.stopping) return 'nobody is left who could save';
    const { minWorkers, patienceMs } = this.#settings;
    return `waiting up to ${patienceMs / 1000} s for at least ${counted(minWorkers, 'worker')}`;
  }

  /** Whether the member has something to do for the run that is not done. */
  #isNeeded(id: string): boolean {
    const owes = this.#gathering || (this.#generation?.owes(id) ?? true);
    return owes || this.#steps.checkpoints.isWriter(id);
  }

  /** These members cannot go on with the others, who form the next generation. */
  fence(places: readonly Place[], why: (place: Place) => string, now: number): Action[] {
    return places.flatMap((place) => {
      const reason = why(place);
      return [
        { type: 'cut', id: place.id, reason },
        ...this.depart(place.id, `${nameOf(place)} ${reason}`, now),
      ];
    });
  }

  /**
   * The first worker that has asked to leave and is needed, because too few others stay, and none is about to come
   * again; null: there is none.
   */
  missed(now: number): { id: string; exitCode: number } | null {
    if (this.members.staying >= this.least || this.rendezvous.awaitsRestart(now)) return null;
    return this.members.leaving[0] ?? null;
  }

  /** Lets those go that have asked to leave and are not needed: for a step, for their state, for a checkpoint. */
  release(): Action[] {
    // A run that ends needs them if those die that write its checkpoint.
    if (this.stopping) return [];
    const generation = this.#generation;
    const { holders } = this.members;
    const areHolding = generation?.places.some(({ id }) => holders.has(id)) ?? false;
    const mayBeNeeded = !areHolding || this.#gathering;
    const isFree = ({ id }: { id: string }) => {
      if (generation?.place(id) || this.#steps.checkpoints.isWriter(id)) return false;
      return !(this.members.isReturning(id) || (mayBeNeeded && holders.has(id)));
    };
    return this.members.leaving.filter(isFree).map(({ id, exitCode }) => {
      this.#released.set(id, this.name(id));
      this.members.leave(id);
      this.#waiting.delete(id);
      return this.send([id], { stop: { exitCode } });
    });
  }

  /** Those that leave and still write a checkpoint leave the generation, so that the others do without their memory. */
  #leaveOut(former: Generation | null, next: Generation): Action[] {
    const out = this.members.leaving.filter(({ id }) => former?.place(id) && next.place(id) === null);
    return out.map(({ id }) => this.send([id], { waiting: { reason: '' } }));
  }

  /** What a worker that was let go, and now has ended, is called; null: it is no such worker. */
  takeReleased(id: string): string | null {
    const name = this.#released.get(id) ?? null;
    this.#released.delete(id);
    return name;
  }

  /** A fault has ended the generation: what its members still say does not count. */
  gather(): Action[] {
    if (this.#gathering) return [];
    this.#gathering = true;
    return [{ type: 'gather' }];
  }

  /** Whether steps would be lost that only a worker holds which is about to come back. */
  awaitsHolder(now: number): boolean {
    return this.#steps.unsaved && !this.members.anyHolds && this.rendezvous.awaitsHolder(now);
  }

  /** What the workers are called for which a run that stops waits because of that, and how long at most. */
  awaited(now: number): { names: string[]; ms: number } {
    if (!this.#steps.mayBeUnsaved || this.members.anyHolds) return { names: [], ms: 0 };
    const { workers, ms } = this.rendezvous.awaited(now);
    return { names: workers.map(nameOf), ms };
  }

  /** The next generation forms after a fault, with all that are there. */
  gathered(now: number): Action[] {
    if (!this.#gathering) return [];
    // Those that wanted to leave may be gone.
    if (this.rendezvous.next.length < this.least) {
      return [{ type: 'warn', message: `No others are left; ${this.#waitForOthers(now)}` }];
    }
    this.#isHeldUp = this.awaitsHolder(now);
    return this.#isHeldUp ? [] : this.form(now, { isRestart: true });
  }

  formIfFull(now: number): Action[] {
    return this.rendezvous.isFull(now) && !this.awaitsHolder(now) ? this.form(now) : [];
  }

  /**
   * Begins the next generation, which ends the one before.
   *
   * @param isRestart Whether a fault has ended the one before, and not workers that have come or leave in order.
   */
  form(now: number, { isRestart = false } = {}): Action[] {
    const { committed, checkpoints } = this.#steps;
    const { totalSlots } = this.#settings;
    const lost = checkpoints.regroup(committed);
    // Those that hold the state may have to finish what they compute for the generation before.
    const follows = this.#hasFormed || this.members.holders.size > 0;
    this.#number = Math.max(this.#number, this.#newest) + 1;
    this.#gathering = false;
    this.#isHeldUp = false;
    this.#hasFormed = true;
    this.#arithmetic.fix();
    const generation = new Generation(this.#number, this.rendezvous.next, totalSlots, follows, now);
    const former = this.#generation;
    const continues = former === null && this.#number > 1;
    this.#generation = generation;
    this.rendezvous.formed();
    const { number, places } = generation;
    for (const { id } of places) this.#waiting.delete(id);
    const without = this.members.standby.filter(({ id }) => generation.place(id) === null);
    const released = this.release();
    return [
      ...lost,
      {
        type: 'journal',
        generation: number,
        workers: places,
        step: committed,
        isRestart: isRestart || continues,
        arithmetic: this.#arithmetic.description,
      },
      generation.send({ form: { members: [...places] } }),
      ...without.flatMap(({ id }) => this.#waits(id)),
      ...released,
      ...this.#leaveOut(former, generation),
    ];
  }
}
