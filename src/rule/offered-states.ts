/** The states that workers offer for checkpoints, because they do not see the run folder: the coordinator gets them. */
import type { Offered } from '../rpc/proto.js';
import type { Action, Member } from './events.js';
import type { Membership } from './membership.js';
import type { PendingCheckpoints } from './pending-checkpoints.js';

interface Offer {
  member: Member;
  offered: Offered;
}

export class OfferedStates {
  readonly #checkpoints: PendingCheckpoints;
  readonly #membership: Membership;
  /** What is being fetched, by the number of the fetch. */
  readonly #fetching = new Map<number, Offer>();
  /** By the number of a fetch: the offer that its worker has made since, because it has seen the transfer break. */
  readonly #later = new Map<number, Offer>();

  constructor(checkpoints: PendingCheckpoints, membership: Membership) {
    this.#checkpoints = checkpoints;
    this.#membership = membership;
  }

  /** A worker offers the state for a checkpoint: it is fetched once, or declined. */
  take(id: string, offered: Offered): Action[] {
    const fetch = this.#checkpoints.fetchOf(offered.step, id);
    if (fetch === null) return this.#fetch(id, offered) ?? [this.#decline(id, offered)];
    const member = this.#membership.members.get(id);
    const later = this.#later.get(fetch);
    // An earlier one of the same process is a message that has come late.
    const isLate = later !== undefined && later.member === member && later.offered.number > offered.number;
    if (member !== null && !isLate) this.#later.set(fetch, { member, offered });
    return [];
  }

  /**
   * A fetch has failed. If its worker has made another offer since, that is fetched, also for a checkpoint that was
   * ordered again meanwhile; otherwise the checkpoint is missed. A worker that could not be reached still offers the
   * first.
   *
   * @returns `missed`: the step whose checkpoint is missed; null: none is.
   */
  fetchAgain(fetch: number): { actions: Action[]; missed: number | null } {
    const missed = this.#checkpoints.notFetched(fetch);
    const first = this.#fetching.get(fetch);
    const later = this.#later.get(fetch);
    this.#forget(fetch);
    if (later === undefined) return { actions: this.#declines(first), missed };
    // A worker that has joined again since then offers its state again. It may be a new process, whose offers are
    // numbered from 1.
    if (!this.#isCurrent(later)) return { actions: [], missed };
    const { member, offered } = later;
    if (missed === null) return { actions: this.take(member.id, offered), missed };
    const again = this.#fetch(member.id, offered);
    return again === null ? { actions: [], missed } : { actions: again, missed: null };
  }

  /**
   * The worker's state was received, or could not be written: what it still offers of this step is declined.
   *
   * @param isReceived Whether it was received: then it offers only what it has offered since.
   */
  settle(id: string, step: number, isReceived: boolean): Action[] {
    const isSettled = ({ member, offered }: Offer) => member.id === id && offered.step === step;
    const over = [...this.#fetching].filter(([, offer]) => isSettled(offer));
    return over.flatMap(([fetch, first]) => {
      const later = this.#later.get(fetch);
      this.#forget(fetch);
      return this.#declines(later ?? (isReceived ? undefined : first));
    });
  }

  #forget(fetch: number): void {
    this.#fetching.delete(fetch);
    this.#later.delete(fetch);
  }

  /** Whether it was made by the process that is a member. */
  #isCurrent({ member }: Offer): boolean {
    return this.#membership.members.get(member.id) === member;
  }

  /** An offer that is not wanted any more, unless its process is gone. */
  #declines(offer: Offer | undefined): Action[] {
    return offer !== undefined && this.#isCurrent(offer)
      ? [this.#decline(offer.member.id, offer.offered)]
      : [];
  }

  #decline(id: string, { number }: Offered): Action {
    return this.#membership.send([id], { declined: { number } });
  }

  /** Null: nobody awaits it. */
  #fetch(id: string, offered: Offered): Action[] | null {
    const fetch = this.#checkpoints.offer(offered.step, id);
    const member = this.#membership.members.get(id);
    if (fetch === null || member === null) return null;
    this.#fetching.set(fetch, { member, offered });
    return [{ type: 'fetch', member, offered, fetch }];
  }
}
