/**
 * Whether the workers of a run share memory. The first generation in which all have reached their peers decides it
 * for the run, because then they have one copy of the state, or one each.
 */
import { OrchestratorError } from '../errors.js';
import type { Fault } from '../fault.js';
import type { Formed } from '../rpc/proto.js';
import type { Place } from './events.js';
import type { Generation } from './generation.js';
import { type Members, nameOf } from './members.js';

interface Unable {
  place: Place;
  problem: string;
}

type Verdict =
  | { shared: boolean; note: string | null }
  /** These cannot share memory with the others, who do already. */
  | { unable: readonly Unable[] }
  | { fault: Fault };

export class Sharing {
  /** The last generation whose members have reached each other. */
  reached: Generation | null = null;
  readonly #must: boolean;
  #shared: boolean | null = null;

  /** @param must `exchange` is `shared`: there is no other way. */
  constructor(must: boolean) {
    this.#must = must;
  }

  /** Whether the members have one copy of the state. */
  get shared(): boolean {
    return this.#shared === true;
  }

  /**
   * Whether a worker is back with something in its memory, and the others have shared a state since it was with them.
   *
   * @param number That of the last generation.
   */
  isLate(id: string, members: Pick<Members, 'isOld' | 'newestOf'>, number: number): boolean {
    const newest = members.newestOf(id);
    const { reached } = this;
    if (!this.shared || newest === 0 || reached === null || !members.isOld(id)) return false;
    // One that is newer than all was of the coordinator before this one.
    return newest < reached.number || newest > number || reached.place(id) === null;
  }

  /**
   * @param formed The answers of the members, by rank.
   * @param members Which of them have the state.
   */
  judge(places: readonly Place[], formed: readonly Formed[], members: Pick<Members, 'holders'>): Verdict {
    // A coordinator before this one has decided it: whoever shares memory holds no state of its own.
    const { holders: all } = members;
    const holders = places.filter(({ id }) => all.has(id));
    if (this.#shared === null && holders.length > 0) {
      this.#shared = holders.every(({ rank }) => !formed[rank]!.held);
    }
    const isWanted = formed.every(({ sharing }) => sharing !== null);
    if (!isWanted || this.#shared === false) {
      this.#shared = false;
      return { shared: false, note: null };
    }
    const unable = places.flatMap((place, rank) => {
      const { problem } = formed[rank]!.sharing!;
      return problem === '' ? [] : [{ place, problem }];
    });
    if (unable.length === 0) {
      this.#shared = true;
      return { shared: true, note: null };
    }
    const why = `${nameOf(unable[0]!.place)}: ${unable[0]!.problem}`;
    if (this.#shared ? unable.length === places.length : this.#must) {
      // A run that has begun to share memory does not change to gRPC; the next start of its command may.
      const hint = this.#must
        ? 'exchange: auto uses gRPC when memory cannot be shared'
        : 'exchange: grpc needs no shared memory';
      return {
        fault: new OrchestratorError('ERR_SHARED_MEMORY', `The workers cannot share memory. ${why}`, hint),
      };
    }
    if (this.#shared) {
      // Both sides say so; who has come last is the one that differs.
      const strangers = unable.filter(({ place }) => !all.has(place.id));
      return { unable: strangers.length > 0 ? strangers : unable };
    }
    this.#shared = false;
    return { shared: false, note: `exchange over gRPC, because memory cannot be shared. ${why}` };
  }
}
