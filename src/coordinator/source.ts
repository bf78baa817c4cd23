/** Where the members of a generation take their state from. */
import type { Sync } from '../rpc/proto.js';

/** A checkpoint, or the beginning of the run: step 0 and no path. */
export interface Beginning {
  step: number;
  path: string;
}

interface Source {
  /** The step after which all members will hold the state. */
  step: number;
  /** What each member is told, by rank. */
  syncs: Omit<Sync, 'devices' | 'shared'>[];
}

function loaded({ path }: Beginning): Omit<Sync, 'devices' | 'shared'> {
  return path === '' ? { initialise: {} } : { checkpoint: path };
}

/**
 * Where rank 0 loads the state from if no member has that which they share: from the last checkpoint, which it gets
 * from the coordinator if it does not see the run folder.
 *
 * @param see Whether each member sees the run folder, by rank.
 */
export function sharedSource(see: readonly boolean[], beginning: Beginning): Source['syncs'] {
  const { step, path } = beginning;
  return see.map((sees) => (sees || path === '' ? loaded(beginning) : { served: { step } }));
}

/**
 * The newest committed state in memory: who holds it keeps it, and serves it to the others. Where nobody does,
 * the last checkpoint, from which those that see the run folder serve the others; if nobody sees it, rank 0 gets it
 * from the coordinator. A state that is older than that is of no use.
 *
 * @param held The step of the state that each member holds, by rank; null: it holds none.
 * @param see Whether each member sees the run folder, by rank.
 * @param committed The last committed step.
 */
export function sourceOf(
  held: readonly (number | null)[],
  see: readonly boolean[],
  committed: number,
  beginning: Beginning,
): Source {
  const { step: first, path } = beginning;
  const useful = held.filter((step) => step !== null && step <= committed && step >= first) as number[];
  if (useful.length === 0) {
    const readers = [...see.keys()].filter((rank) => see[rank]);
    const received = { holders: { step: first, ranks: readers.length > 0 ? readers : [0] } };
    const own = (rank: number) => {
      if (see[rank] || path === '') return loaded(beginning);
      return readers.length === 0 && rank === 0 ? { served: { step: first } } : received;
    };
    return { step: first, syncs: see.map((_, rank) => own(rank)) };
  }
  const step = Math.max(...useful);
  const ranks = [...held.keys()].filter((rank) => held[rank] === step);
  return {
    step,
    syncs: held.map((own) => (own === step ? { keep: {} } : { holders: { step, ranks } })),
  };
}
