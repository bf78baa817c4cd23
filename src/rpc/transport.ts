/** Addresses of a run's sockets, and options of its gRPC channels and servers. */
import { randomBytes } from 'node:crypto';
import { type ChannelOptions, logVerbosity, setLogVerbosity } from '@grpc/grpc-js';
import { OrchestratorError } from '../errors.js';

// grpc-js logs to stderr; everything that matters also arrives as an error.
if (process.env.GRPC_VERBOSITY === undefined) setLogVerbosity(logVerbosity.NONE);

/** Largest message of the control plane. A Prepared of 4,096 samples takes about 100 KB. */
const CONTROL_MESSAGE_BYTES = 16 * 1024 * 1024;

/** Memory that HTTP/2 may use for one connection of the control plane, beside the messages. */
const CONTROL_SESSION_MEGABYTES = 32;

export const controlOptions: ChannelOptions = {
  // Loopback traffic must not go through a proxy from the environment.
  'grpc.enable_http_proxy': 0,
  'grpc-node.max_session_memory': CONTROL_SESSION_MEGABYTES,
  'grpc.max_receive_message_length': CONTROL_MESSAGE_BYTES,
  'grpc.max_send_message_length': CONTROL_MESSAGE_BYTES,
};

/** Whether a host is a loopback address, which other machines cannot reach. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Host and port of "host:port". */
export function splitAddress(address: string): { host: string; port: number } {
  const match = /^(\[[^\]]+\]|[^:]+):(\d{1,5})$/.exec(address);
  if (match === null || Number(match[2]) > 65535) {
    throw new OrchestratorError('ERR_USAGE', `Expected an address as host:port but received "${address}"`);
  }
  return { host: match[1]!, port: Number(match[2]) };
}

/** The same, but refuses other hosts than loopback: without TLS, traffic must stay on this machine. */
export function splitLoopback(address: string): { host: string; port: number } {
  const { host, port } = splitAddress(address);
  if (isLoopback(host)) return { host, port };
  throw new OrchestratorError(
    'ERR_USAGE',
    `Address ${address} is not on loopback, and traffic between machines would be plaintext`,
    'Use 127.0.0.1',
  );
}

const ABSTRACT = 'unix-abstract:';

/**
 * A new address on this machine. On Linux it is a socket in the abstract namespace, which takes a third less
 * processor time than TCP on loopback and leaves no file.
 */
export function localAddress(): string {
  if (process.platform !== 'linux') return '127.0.0.1:0';
  return `${ABSTRACT}orchestrator-${randomBytes(12).toString('hex')}`;
}

/** Options of node:net for an address in gRPC's notation. Refuses addresses of other machines. */
export function socketAddress(address: string): { path: string } | { host: string; port: number } {
  if (address.startsWith(ABSTRACT)) return { path: `\0${address.slice(ABSTRACT.length)}` };
  const { host, port } = splitLoopback(address);
  return { host: host.replace(/^\[|\]$/g, ''), port };
}

/** The error for an address that cannot be bound. */
export function listenFailure(address: string, error: Error): OrchestratorError {
  const taken = /EADDRINUSE/.test(error.message);
  return new OrchestratorError(
    'ERR_PORT',
    taken
      ? `Address ${address} is in use by another process`
      : `Cannot listen on ${address}: ${error.message}`,
    { hint: 'Choose another port; port 0 takes any free one', cause: error },
  );
}
