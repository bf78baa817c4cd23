/** A run that workers of other machines may join: its authority, its tokens, and where it listens. */

import { OrchestratorError } from '../errors.js';
import { hostInAddress } from '../rpc/address.js';
import { PROTOCOL } from '../rpc/protocol.js';
import type { Secrets } from '../run-folder/secrets.js';
import { formatCredential } from '../security/credential.js';
import { Enrolments } from '../security/enrolment.js';
import type { Certified } from '../security/identity.js';
import type { TokenRules } from '../security/tokens.js';
import type { NetworkAddress } from './network-address.js';
import type { Sessions } from './sessions.js';

/** Makes a credential. */
export type Invite = (rules: TokenRules) => string;

/** Listens at the former port, where workers may look for this coordinator, unless somebody else has it by now. */
async function listenAgain(
  asked: string,
  former: string,
  listen: (address: string) => Promise<number>,
): Promise<number> {
  try {
    return await listen(former);
  } catch (error) {
    const isTaken = error instanceof OrchestratorError && error.code === 'ERR_PORT';
    if (!isTaken || former === asked) throw error;
    return await listen(asked);
  }
}

export async function listenOnNetwork(
  { listen, advertise }: NetworkAddress,
  sessions: Sessions,
  secrets: Secrets,
): Promise<{ address: string; invite: Invite; own: Certified }> {
  const { authority, tokens } = await secrets.network();
  const own = await authority.coordinator();
  const enrolments = new Enrolments({ authority, tokens, protocol: PROTOCOL });
  const port = await listenAgain(listen, secrets.formerPort(listen), (listen) =>
    sessions.listen({ listen, own, enrolments }),
  );
  secrets.keepPort(port);
  const address = `${hostInAddress(advertise)}:${port}`;
  const { fingerprint } = authority;
  return {
    address,
    own,
    invite: (rules) => formatCredential({ address, enrolment: { token: tokens.issue(rules), fingerprint } }),
  };
}
