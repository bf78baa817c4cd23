/** Where a run listens on a network. */
import { splitAddress } from '../rpc/address.js';

export interface NetworkAddress {
  /** host:port to bind to; port 0 takes any free one. */
  listen: string;
  /** The host under which workers reach it. */
  advertise: string;
}

/** The host of an address if other machines may reach it there; null if it stands for all of this machine's. */
export function advertisable(listen: string): string | null {
  const { host } = splitAddress(listen);
  return /^(0\.0\.0\.0|\[[0:]+\])$/.test(host) ? null : host;
}
