/** A run that workers of other machines may join: its authority, its tokens, and where it listens. */

import { hostInAddress } from '../rpc/address.js';
import { PROTOCOL } from '../rpc/protocol.js';
import { formatCredential } from '../security/credential.js';
import { Enrolments } from '../security/enrolment.js';
import type { Certified } from '../security/identity.js';
import type { TokenRules } from '../security/tokens.js';
import type { NetworkAddress } from './network-address.js';
import type { Secrets } from './secrets.js';
import type { Sessions } from './sessions.js';

/** Makes a credential. */
export type Invite = (rules: TokenRules) => string;

export async function listenOnNetwork(
  { listen, advertise }: NetworkAddress,
  sessions: Sessions,
  secrets: Secrets,
): Promise<{ address: string; invite: Invite; own: Certified }> {
  const { authority, tokens } = await secrets.network();
  const own = await authority.coordinator();
  const enrolments = new Enrolments({ authority, tokens, protocol: PROTOCOL });
  const port = await sessions.listen({ listen: secrets.formerPort(listen), own, enrolments });
  secrets.keepPort(port);
  const address = `${hostInAddress(advertise)}:${port}`;
  const { fingerprint } = authority;
  return {
    address,
    own,
    invite: (rules) => formatCredential({ address, enrolment: { token: tokens.issue(rules), fingerprint } }),
  };
}
