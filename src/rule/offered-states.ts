/** The states that workers offer for checkpoints, because they do not see the run folder: the coordinator gets them. */
import type { Offered } from '../rpc/proto.js';
import type { Action, Member } from './events.js';
import type { Membership } from './membership.js';
import type { PendingCheckpoints } from './pending-checkpoints.js';

export class OfferedStates {
  readonly #checkpoints: PendingCheckpoints;
  readonly #membership: Membership;
  /** By the number of a fetch: the offer that its worker has made since, because it has seen the transfer break. */
  readonly #later = new Map<number, { member: Member; offered: Offered }>();

  constructor(checkpoints: PendingCheckpoints, membership: Membership) {
    this.#checkpoints = checkpoints;
    this.#membership = membership;
  }

  /** A worker offers the state for a checkpoint: it is fetched once, or declined. */
  take(id: string, offered: Offered): Action[] {
    const fetch = this.#checkpoints.fetchOf(offered.step, id);
    if (fetch === null) return this.#fetch(id, offered) ?? [this.#decline(id, offered)];
    const member = this.#membership.members.get(id);
    if (member !== null) this.#later.set(fetch, { member, offered });
    return [];
  }

  /**
   * A fetch has failed. If its worker has made another offer since, that is fetched, also for a checkpoint that was
   * ordered again meanwhile; otherwise the checkpoint is missed.
   */
  fetchAgain(fetch: number): Action[] | { missed: number } {
    const missed = this.#checkpoints.notFetched(fetch);
    const later = this.#later.get(fetch);
    this.#later.delete(fetch);
    const member = later === undefined ? null : this.#membership.members.get(later.member.id);
    // A worker that has joined again since then offers its state again. It may be a new process, whose offers are
    // numbered from 1.
    if (later === undefined || member !== later.member) return missed === null ? [] : { missed };
    if (missed === null) return this.take(member.id, later.offered);
    return this.#fetch(member.id, later.offered) ?? { missed };
  }

  /** The worker's state was received, or could not be written: an offer that it has made since is declined. */
  settle(id: string, step: number): Action[] {
    const member = this.#membership.members.get(id);
    const over = [...this.#later].filter(
      ([, later]) => later.member === member && later.offered.step === step,
    );
    for (const [fetch] of over) this.#later.delete(fetch);
    return over.map(([, { offered }]) => this.#decline(id, offered));
  }

  #decline(id: string, { number }: Offered): Action {
    return this.#membership.send([id], { declined: { number } });
  }

  /** Null: nobody awaits it. */
  #fetch(id: string, offered: Offered): Action[] | null {
    const fetch = this.#checkpoints.offer(offered.step, id);
    const member = this.#membership.members.get(id);
    return fetch === null || member === null ? null : [{ type: 'fetch', member, offered, fetch }];
  }
}
