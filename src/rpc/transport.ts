/** Options and credentials of all gRPC channels and servers of a run. */
import { promisify } from 'node:util';
import {
  type ChannelOptions,
  logVerbosity,
  type Server,
  ServerCredentials,
  setLogVerbosity,
} from '@grpc/grpc-js';
import { OrchestratorError } from '../errors.js';

// grpc-js logs to stderr; everything that matters also arrives as an error.
if (process.env.GRPC_VERBOSITY === undefined) setLogVerbosity(logVerbosity.NONE);

/** Largest message of the control plane. A Prepared of 4,096 samples takes about 100 KB. */
const CONTROL_MESSAGE_BYTES = 16 * 1024 * 1024;

export const controlOptions: ChannelOptions = {
  // Loopback traffic must not go through a proxy from the environment.
  'grpc.enable_http_proxy': 0,
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.keepalive_permit_without_calls': 1,
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

/** Binds a server and returns the bound address, "host:port". */
export async function bind(server: Server, address: string): Promise<string> {
  const { host } = splitLoopback(address);
  try {
    const port = await promisify(server.bindAsync.bind(server))(address, ServerCredentials.createInsecure());
    return `${host}:${port}`;
  } catch (error) {
    throw listenFailure(address, error as Error);
  }
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
