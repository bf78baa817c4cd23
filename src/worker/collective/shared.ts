/**
 * Workers of one machine: gradients are summed where they lie, in memory that all of them map, and so are the weights
 * updated, each piece by whichever worker has time (native/engine/group.h). Who takes part is agreed over gRPC.
 */

import type { Config } from '../../config/schema.js';
import { OrchestratorError } from '../../errors.js';
import type { Group } from '../../native/contract.js';
import { native } from '../../native/load.js';
import type { Form } from '../../rpc/proto.js';

/** Most members of a group. */
const MAX_MEMBERS = 64;

/** This worker's shared memory, for others of its machine to find; null where the system has none to give. */
export function offerSharedMemory(): Group | null {
  try {
    return native().createGroup();
  } catch {
    return null;
  }
}

/** Whether the workers of this formation share memory: every one of them comes to the same answer. */
export function sharesMemory(
  { device, exchange }: Pick<Config, 'device' | 'exchange'>,
  members: NonNullable<Form['members']>,
): boolean {
  if (device === 'cuda' || exchange === 'grpc' || members.length === 1) return false;
  const machines = new Set(members.map(({ sharedMemory }) => sharedMemory.split('/')[0]));
  const can = machines.size === 1 && !machines.has('') && members.length <= MAX_MEMBERS;
  if (exchange === 'shared' && !can) {
    throw new OrchestratorError(
      'ERR_SHARED_MEMORY',
      `exchange: shared needs all workers on one machine, and at most ${MAX_MEMBERS} of them`,
      { hint: 'exchange: auto takes gRPC where memory cannot be shared.' },
    );
  }
  return can;
}
