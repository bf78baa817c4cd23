/**
 * Sockets within a machine. They are in the abstract namespace, which takes a third less processor time than TCP on
 * loopback and leaves no file. Anybody may connect there, so both sides ask the kernel who the other one is.
 */
import { randomBytes } from 'node:crypto';
import { readlinkSync } from 'node:fs';
import type { Socket } from 'node:net';
import { textOrNull } from '../files/io.js';
import { processSpace } from '../files/processes.js';
import { native } from '../native/load.js';
import { ABSTRACT } from '../security/credential.js';

/** The flags of a listening socket in /proc/net/unix. */
const ACCEPTS = '00010000';

/** A new address on this machine. */
export function localAddress(): string {
  return `${ABSTRACT}orchestrator-${randomBytes(12).toString('hex')}`;
}

/** Where process ids and local addresses mean the same: a boot of a machine, and its namespaces. */
export function machineName(): string {
  return `${processSpace()} ${readlinkSync('/proc/self/ns/net')}`;
}

/** Which boot a machine's name is of. */
export function bootOf(machine: string): string {
  return machine.split(' ')[0]!;
}

/** Whether a process of this machine, in the same namespaces, listens at a local address. */
export function isListening(address: string): boolean {
  const sockets = textOrNull('/proc/net/unix')?.split('\n') ?? [];
  return sockets.some((line) => {
    const [, , , flags, , , , path] = line.split(/\s+/);
    // Node.js binds all bytes of a name, and the kernel shows zeros as @.
    return flags === ACCEPTS && `${ABSTRACT}${path?.slice(1).replace(/@+$/, '')}` === address;
  });
}

/**
 * Why the process at the other end of a local connection has no part in this one's run; null if it may have: it
 * belongs to the same user, and this process can see it. In a container with the host's network, root is not the
 * host's root.
 */
export function strangerAt(socket: Socket): string | null {
  // Node.js has no other way to a socket's descriptor.
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  if (handle === null) return 'it was closed';
  const { pid, user } = native().socketPeer(handle.fd);
  if (user !== process.geteuid!()) return `it is a process of another user (${user})`;
  return pid === 0 ? 'it is a process in another PID namespace' : null;
}
