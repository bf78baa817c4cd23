/** The workers of a run as `orchestrator status` lists them. */
import type { WorkerView } from '../telemetry/run-progress.js';
import type { Place } from './events.js';
import type { Rendezvous } from './rendezvous.js';

type Known = Parameters<Rendezvous['lost']>[0];

/**
 * Those with a rank first, and then those that have joined, and those that are missing.
 *
 * @param deviceOf The device of a rank, as far as it has said.
 */
export function workerList(
  { members, absent }: Pick<Rendezvous, 'members' | 'absent'>,
  places: readonly Place[],
  deviceOf: (rank: number) => string,
): WorkerView[] {
  const ranks = new Map(places.map(({ id, rank }) => [id, rank]));
  const view = ({ id, host = '', pid }: Known, state: WorkerView['state']) => {
    const rank = ranks.get(id) ?? null;
    return { rank, id, host, pid: pid ?? null, state, device: rank === null ? '' : deviceOf(rank) };
  };
  const present = members.present.map(({ member, standby, leaving }) => {
    if (leaving !== null) return view(member, 'leaving');
    if (ranks.has(member.id)) return view(member, 'training');
    return view(member, standby ? 'standby' : 'building');
  });
  present.sort((a, b) => (a.rank ?? Infinity) - (b.rank ?? Infinity));
  const without = (known: readonly Known[], state: 'lost' | 'ended') =>
    known.map((one) => ({ ...view(one, state), rank: null, device: '' }));
  return [...present, ...without(absent.lost, 'lost'), ...without(absent.ended, 'ended')];
}
