/** The workers of a run as `orchestrator status` lists them. */
import type { WorkerView } from '../telemetry/run-progress.js';
import type { Place } from './events.js';
import type { Rendezvous } from './rendezvous.js';

interface Known {
  id: string;
  host?: string;
  pid?: number;
}

/**
 * Those with a rank first, and then those that have joined, and those that are missing.
 *
 * @param deviceOf The device of a process, as far as it has said. Ranks change hands while a generation forms.
 */
export function workerList(
  { members, absent }: Pick<Rendezvous, 'members' | 'absent'>,
  places: readonly Place[],
  deviceOf: (worker: Known) => string,
): WorkerView[] {
  const ranks = new Map(places.map(({ id, rank }) => [id, rank]));
  const view = (known: Known, state: WorkerView['state']) => {
    const { id, host = '', pid = null } = known;
    return { rank: ranks.get(id) ?? null, id, host, pid, state, device: deviceOf(known) };
  };
  const present = members.present.map(({ member, standby, leaving }) => {
    if (leaving !== null) return view(member, 'leaving');
    if (ranks.has(member.id)) return view(member, 'training');
    return view(member, standby ? 'standby' : 'building');
  });
  present.sort((a, b) => (a.rank ?? Infinity) - (b.rank ?? Infinity));
  const without = (known: readonly Known[], state: 'lost' | 'missing' | 'ended') =>
    known.map((one) => ({ ...view(one, state), rank: null, device: '' }));
  const { lost, missing, ended } = absent;
  return [...present, ...without(lost, 'lost'), ...without(missing, 'missing'), ...without(ended, 'ended')];
}
