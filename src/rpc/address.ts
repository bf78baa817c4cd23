/** Addresses of a run's sockets: "host:port", and "unix-abstract:name" within a machine, as gRPC has them. */
import { OrchestratorError } from '../errors.js';
import { ABSTRACT } from '../security/credential.js';

interface HostPort {
  host: string;
  port: number;
}

function hostAndPort(address: string): HostPort | null {
  const match = /^(\[[^\]]+\]|[^:]+):(\d{1,5})$/.exec(address);
  if (match === null || Number(match[2]) > 65535) return null;
  return { host: match[1]!, port: Number(match[2]) };
}

/**
 * Host and port of "host:port".
 *
 * @throws OrchestratorError ERR_USAGE if it has another form.
 */
export function splitAddress(address: string): HostPort {
  const split = hostAndPort(address);
  if (split !== null) return split;
  throw new OrchestratorError('ERR_USAGE', `Expected an address as host:port but received "${address}"`);
}

/** Whether there is an address, of a form that `socketAddress` takes, or none (''). */
export function isAddressOrNone(address: string): boolean {
  return address === '' || address.startsWith(ABSTRACT) || hostAndPort(address) !== null;
}

/** A host as it stands in an address: IPv6 addresses in brackets. */
export function hostInAddress(host: string): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
}

/**
 * Options of node:net for an address in gRPC's notation.
 *
 * @throws OrchestratorError ERR_USAGE if it has another form.
 */
export function socketAddress(address: string): { path: string } | HostPort {
  if (address.startsWith(ABSTRACT)) return { path: `\0${address.slice(ABSTRACT.length)}` };
  const { host, port } = splitAddress(address);
  return { host: host.replace(/^\[|\]$/g, ''), port };
}

/** The target of a gRPC channel, whose own resolver takes only the paths of Unix sockets. */
export function channelTarget(address: string): string {
  const options = socketAddress(address);
  return 'path' in options ? `unix:${options.path}` : address;
}

/** The error for an address that cannot be bound. */
export function listenFailure(address: string, error: Error): OrchestratorError {
  const [, code = ''] = /\b(EADDRINUSE|EADDRNOTAVAIL)\b/.exec(error.message) ?? [];
  const hints: Record<string, string> = {
    EADDRINUSE: 'Choose another port; port 0 takes any free one',
    EADDRNOTAVAIL: 'The host must be an address of this machine; `ip addr` lists them',
  };
  const message =
    code === 'EADDRINUSE'
      ? `Address ${address} is in use by another process`
      : `Cannot listen on ${address}: ${error.message}`;
  return new OrchestratorError('ERR_PORT', message, { hint: hints[code] ?? null, cause: error });
}
