/** How a worker becomes a member of its run, before its session begins. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { OrchestratorError } from '../errors.js';
import { reasonOf } from '../files/io.js';
import { socketAddress } from '../rpc/address.js';
import { PROTOCOL } from '../rpc/protocol.js';
import type { Credential, RemoteCredential } from '../security/credential.js';
import { type Enrolled, enrol } from '../security/enrolment.js';
import { newKey } from '../security/keys.js';

/** A worker may start before its coordinator does. */
const PATIENCE_MS = 30_000;
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 2_000;

/**
 * Enrols where the credential asks for it. `id` is the worker's id in the run.
 *
 * @throws OrchestratorError ERR_TOKEN, ERR_PROTOCOL, or ERR_COORDINATOR_LOST if nobody answers in time.
 */
export async function becomeMember({ credential, workerId }: { credential: Credential; workerId: string }) {
  const { address } = credential;
  if (credential.enrolment === null) return { id: workerId, address, enrolled: null };
  const enrolled = await patiently(credential, workerId);
  return { id: enrolled.own.identity.id, address, enrolled };
}

async function patiently(credential: RemoteCredential, worker: string): Promise<Enrolled> {
  const until = performance.now() + PATIENCE_MS;
  const key = newKey();
  for (let delay = FIRST_DELAY_MS; ; delay = Math.min(2 * delay, LONGEST_DELAY_MS)) {
    try {
      const socket = connect({ ...socketAddress(credential.address), noDelay: true, timeout: PATIENCE_MS });
      socket.once('timeout', () => socket.destroy(new Error('no answer')));
      await once(socket, 'connect');
      return await enrol(credential, { worker, protocol: PROTOCOL, key, socket });
    } catch (error) {
      if (error instanceof OrchestratorError) throw error;
      // OpenSSL's own messages name lines of its source.
      const { reason = reasonOf(error) } = error as { reason?: string };
      if (performance.now() > until) {
        throw new OrchestratorError(
          'ERR_COORDINATOR_LOST',
          `No coordinator at ${credential.address} within ${PATIENCE_MS / 1000} s: ${reason}`,
          "Is the run in progress, and does a firewall let this port through? `doctor --hosts`, on the coordinator's machine, tries it",
        );
      }
      await sleep(delay);
    }
  }
}
