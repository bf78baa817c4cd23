/** Links between members that live: they connect again, or one of them is left out. */
import type { Suspect } from '../rpc/proto.js';
import type { Action } from './events.js';
import type { Generation } from './generation.js';
import type { Membership } from './membership.js';

/** A link that breaks again so soon is broken: one of its ends is left out. */
const LINK_MS = 60_000;

export class BrokenLinks {
  readonly #membership: Membership;
  /** When the members last connected again, because a link between two of them broke. */
  #reconnectedAt = Number.NEGATIVE_INFINITY;

  constructor(membership: Membership) {
    this.#membership = membership;
  }

  /** A member's exchange broke; `rank` is that of the peer that it cannot reach, if it is one. */
  suspect(generation: Generation, id: string, { rank, why }: Suspect, now: number): Action[] {
    const peer = generation.places[rank] ?? null;
    generation.suspicions.add(id, peer === null || peer.id === id ? null : peer.id, now);
    return [{ type: 'warn', message: `${this.#membership.name(id)}: ${why}` }];
  }

  /**
   * Where links broke and both ends live, the members connect again; where that is of no use, the one with most broken
   * links is left out, and of several the one that has joined last.
   */
  decide(generation: Generation, now: number): Action[] {
    const { members } = this.#membership;
    const suspects = generation.suspicions.suspects(now, (id) => members.heardAt(id));
    if (suspects === null) return [];
    const isNew = now - this.#reconnectedAt > LINK_MS && generation.stage !== 'FORMING';
    if (isNew) {
      this.#reconnectedAt = now;
      const message = 'All workers live, so they connect to each other again';
      return [{ type: 'warn', message }, ...this.#membership.gather()];
    }
    const place = generation.place(members.youngest(suspects));
    const reason = () => 'cannot exchange gradients with the others';
    return place === null ? [] : this.#membership.fence([place], reason, now);
  }
}
