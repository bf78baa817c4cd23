/** Under which address other hosts reach this machine, where nobody says it. */
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { OrchestratorError } from '../errors.js';
import { reasonOf } from '../files/io.js';
import type { RunHost } from './processes.js';

/** Any port: nothing is sent. */
const DISCARD = 9;
const SAY_IT =
  'Say it with --listen ADDRESS:PORT, where ADDRESS is one of this machine (`ip addr` lists them)';

/**
 * The address from which this machine's connections to the hosts go out. Nothing is sent for it: the kernel's table
 * of routes and ssh's configuration say it.
 *
 * @throws OrchestratorError ERR_USAGE where that is not one address.
 */
export async function ownAddress(hosts: readonly RunHost[]): Promise<string> {
  const found = await Promise.all(
    hosts.flatMap(({ name, ssh }) => (ssh === null ? [] : [addressTowards(name, ssh)])),
  );
  const addresses = [...new Set(found.map(({ address }) => address))];
  if (addresses.length === 1) return addresses[0]!;
  const list = found.map(({ name, address }) => `${address} towards ${name}`).join(', ');
  throw new OrchestratorError(
    'ERR_USAGE',
    `This machine has several addresses for its hosts: ${list}`,
    SAY_IT,
  );
}

async function addressTowards(name: string, ssh: NonNullable<RunHost['ssh']>) {
  try {
    return { name, address: await localAddressTowards(hostnameOf(ssh)) };
  } catch (error) {
    const why = reasonOf(error);
    throw new OrchestratorError(
      'ERR_USAGE',
      `Under which address ${name} reaches this machine is unknown: ${why}`,
      SAY_IT,
    );
  }
}

/** The address of this machine from which connections to a host go out. */
export async function localAddressTowards(host: string): Promise<string> {
  const { address, family } = await lookup(host);
  const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.connect(DISCARD, address, resolve);
    });
    return socket.address().address;
  } finally {
    socket.close();
  }
}

/** The host behind an alias of ssh's configuration. */
function hostnameOf({ destination }: NonNullable<RunHost['ssh']>): string {
  const { stdout, error } = spawnSync('ssh', ['-G', '--', destination], {
    encoding: 'utf8',
    timeout: 10_000,
  });
  if (error !== undefined) throw error;
  const settings = new Map(stdout.split('\n').map((line) => line.split(/ (.*)/s, 2) as [string, string]));
  const detour = ['proxyjump', 'proxycommand'].find((key) => (settings.get(key) ?? 'none') !== 'none');
  if (detour !== undefined) throw new Error(`ssh reaches it by ${detour} ${settings.get(detour)}`);
  return settings.get('hostname') ?? destination;
}
