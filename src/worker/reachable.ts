/** How a worker and the other processes of its run reach each other. */
import { hostInAddress } from '../rpc/address.js';
import type { Link } from '../rpc/links.js';
import { machineName } from '../rpc/local.js';
import type { Credential } from '../security/credential.js';
import type { Certified } from '../security/identity.js';
import { PeerServer } from './collective/grpc.js';
import { becomeMember } from './enrol.js';

export interface Connecting {
  credential: Credential;
  /** The id that it wants; a token that is another's has its own. */
  workerId: string;
  /** The port on which workers of other machines reach it; 0: any free one. */
  port: number;
  /** The host under which they reach it; null: the address from which it has reached the coordinator. */
  advertise: string | null;
}

export interface Reachable {
  id: string;
  coordinator: Link;
  /** By what it proves its identity to processes of other machines; null: the run has none. */
  own: Certified | null;
  peers: PeerServer;
  addresses: {
    /** For other machines; '': none. */
    dataAddress: string;
    /** For workers of the same machine. */
    localAddress: string;
    machine: string;
  };
}

/**
 * Enrols the worker where its run is on several machines, and listens for its peers.
 *
 * @param note Tells the user.
 */
export async function becomeReachable(options: Connecting, note: (text: string) => void): Promise<Reachable> {
  const { id, address, enrolled } = await becomeMember(options);
  const peers = new PeerServer((message) => note(`warn refused ${message}`));
  try {
    const within = { localAddress: await peers.listenLocally(), machine: machineName() };
    if (enrolled === null) {
      const addresses = { dataAddress: '', ...within };
      return { id, coordinator: { address, proof: null }, own: null, peers, addresses };
    }
    const { own, localHost } = enrolled;
    const { port, advertise } = options;
    // The interface that leads to the coordinator leads to the other workers, too.
    const host = hostInAddress(localHost);
    const listen = `${host}:${port}`;
    // The coordinator gets the state that is offered to it.
    const roles = ['worker', 'coordinator'] as const;
    const bound = await peers.listen({ listen, own, roles, enrolments: null });
    const addresses = { dataAddress: `${advertise ?? host}:${bound}`, ...within };
    const expected = { run: own.identity.run, role: 'coordinator', id: '' } as const;
    return { id, coordinator: { address, proof: { own, expected } }, own, peers, addresses };
  } catch (error) {
    // It would keep this process alive.
    peers.close();
    throw error;
  }
}
