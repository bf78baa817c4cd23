/** The states that workers offer for checkpoints, because they do not see the run folder: the coordinator gets them. */
import type { Offered } from '../rpc/proto.js';
import type { Action } from './events.js';
import type { Membership } from './membership.js';
import type { PendingCheckpoints } from './pending-checkpoints.js';

export class OfferedStates {
  readonly #checkpoints: PendingCheckpoints;
  readonly #membership: Membership;

  constructor(checkpoints: PendingCheckpoints, membership: Membership) {
    this.#checkpoints = checkpoints;
    this.#membership = membership;
  }

  /** A worker offers the state for a checkpoint: it is fetched once, or declined. */
  take(id: string, offered: Offered): Action[] {
    if (this.#checkpoints.isFetched(offered, id)) return [];
    return (
      this.#fetch(id, offered) ?? [this.#membership.send([id], { declined: { number: offered.number } })]
    );
  }

  /** A fetch has failed. What its worker has offered since is fetched; otherwise that checkpoint is missed. */
  fetchAgain(fetch: number): Action[] | { missed: number } {
    const failed = this.#checkpoints.notFetched(fetch);
    if (failed === null) return [];
    const { step, writer, again } = failed;
    return (again === null ? null : this.#fetch(writer, again)) ?? { missed: step };
  }

  /** Null: nobody awaits it. */
  #fetch(id: string, offered: Offered): Action[] | null {
    const fetch = this.#checkpoints.offer(offered.step, id);
    const member = this.#membership.members.get(id);
    return fetch === null || member === null ? null : [{ type: 'fetch', member, offered, fetch }];
  }
}
