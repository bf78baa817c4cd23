/**
 * All-reduce between workers of one machine: they map the same memory, sum the gradients in place, and update
 * the weights there, each piece by whichever worker has time (native/engine/group.h). Membership goes over
 * gRPC.
 */
import type { Config } from '../../config/schema.js';
import { OrchestratorError } from '../../errors.js';
import type { Engine, Group } from '../../native/contract.js';
import { native } from '../../native/load.js';
import type { Form } from '../../rpc/proto.js';
import { type Collective, engineCollective } from './collective.js';

/** Maximum number of workers in a group. */
export const MAX_MEMBERS = 64;

/** This worker's shared memory, which others on its machine can join; null if the system provides none. */
export function offerSharedMemory(): Group | null {
  try {
    return native().createGroup();
  } catch {
    return null;
  }
}

/** Whether the workers of this generation can share memory. Every worker comes to the same answer. */
export function canShareMemory(exchange: Config['exchange'], members: Form['members']): boolean {
  const machines = new Set(members.map(({ sharedMemory }) => sharedMemory.split('/')[0]));
  const can = machines.size === 1 && !machines.has('') && members.length <= MAX_MEMBERS;
  if (exchange === 'shared' && !can) throw cannotShare();
  return can;
}

export function cannotShare(): OrchestratorError {
  return new OrchestratorError(
    'ERR_SHARED_MEMORY',
    `exchange: shared needs all workers on one machine, and at most ${MAX_MEMBERS} of them`,
    'exchange: auto uses gRPC when memory cannot be shared',
  );
}

/** Joins the group of this machine's workers. From then on they have one copy of the state. */
export async function shareMemory(
  engine: Engine,
  group: Group,
  { rank, members }: Form,
  generation: number,
): Promise<Collective> {
  group.form(
    members.map(({ sharedMemory }) => sharedMemory),
    rank,
    generation,
  );
  await engine.join(group);
  return engineCollective(engine, true);
}
