/**
 * All-reduce between workers of one machine: they map the same memory, sum the gradients in place, and update
 * the weights there, each piece by whichever worker has time (native/engine/group.h). Membership goes over
 * gRPC.
 */
import { OrchestratorError } from '../../errors.js';
import { faultOf } from '../../fault.js';
import type { Group } from '../../native/contract.js';
import { native } from '../../native/load.js';
import type { Formation } from '../../rpc/proto.js';

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

export function cannotShare(): OrchestratorError {
  return new OrchestratorError(
    'ERR_SHARED_MEMORY',
    `exchange: shared needs all workers on one machine, and at most ${MAX_MEMBERS} of them`,
    'exchange: auto uses gRPC when memory cannot be shared',
  );
}

/**
 * Opens the memory of the members of a generation. Returns why this worker cannot share memory with them; '' if it
 * can.
 */
export function reachMemory(group: Group | null, { rank, members }: Formation, generation: number): string {
  const addresses = members.map(({ sharedMemory }) => sharedMemory);
  if (group === null || addresses.includes('')) return 'the system of a worker provides no shared memory';
  try {
    group.form(addresses, rank, generation);
    return '';
  } catch (error) {
    const { code, message } = faultOf(error);
    if (code === 'ERR_SHARED_MEMORY') return message;
    throw error;
  }
}
