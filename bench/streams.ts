/** The data plane between two processes, in one direction: within a machine, over TLS, and at a round trip of 2 ms. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { WORKER_OPTIONS } from '../src/launch/processes.js';
import type { Link } from '../src/rpc/links.js';
import { Authority } from '../src/security/authority.js';
import type { Certified } from '../src/security/identity.js';
import { newKey } from '../src/security/keys.js';
import { noHosts, TestHosts } from '../test/support/hosts.js';
import { noRelay } from '../test/support/relay.js';
import { print, table } from './report.js';

const SCRIPT = fileURLToPath(new URL('./streams-process.js', import.meta.url));
/** What all streams together bring. */
const MEGABYTES = 1024;
/** Each way. */
const DELAY_MS = 1;
/** A packet of 64 KiB is what network cards and the kernel pass on at once; the relay has no such help. */
const MTU = 65_000;

export interface Sending {
  /** The address to listen at; null: within the machine. */
  listen: string | null;
  own: Certified | null;
  /** Plain TCP, to see what the network carries. */
  raw: boolean;
}

export interface Receiving {
  address: string;
  proof: Link['proof'];
  streams: number;
  /** What each stream brings. */
  megabytes: number;
  raw: boolean;
}

export type Orders = Sending | Receiving;

export interface Ended {
  seconds: number;
  processor: number;
}

/** Two ends of a wire: what runs a command there, and where the sender listens. */
interface Wire {
  name: string;
  ends: [sender: readonly string[], receiver: readonly string[]];
  listen: string | null;
  raw: boolean;
}

/** Prints megabytes (10^6 bytes) a second, and the processor time of both ends. */
export async function benchStreams(): Promise<void> {
  print('\n## Streams of the data plane, from one process to another\n');
  for (const cipher of ['aes-128-gcm', 'aes-256-gcm'])
    print(`openssl speed, ${cipher}: ${cipherSpeed(cipher)}`);
  print();
  const missing = noHosts() ?? noRelay();
  const hosts = missing === null ? await TestHosts.relayed(2, DELAY_MS, 0, MTU) : null;
  if (missing !== null) print(`no figures at ${2 * DELAY_MS} ms: ${missing}\n`);
  const far = (raw: boolean): Omit<Wire, 'name'>[] =>
    hosts === null ? [] : [{ ends: [hosts.on(1), hosts.on(2)], listen: hosts.address(1), raw }];
  const here: Wire['ends'] = [[], []];
  const wires: Wire[] = [
    { name: 'Unix socket', ends: here, listen: null, raw: false },
    { name: 'TLS, loopback', ends: here, listen: '127.0.0.1', raw: false },
    ...far(false).map((wire) => ({ name: `TLS, ${2 * DELAY_MS} ms`, ...wire })),
    ...far(true).map((wire) => ({ name: `plain TCP, ${2 * DELAY_MS} ms`, ...wire })),
  ];
  try {
    const rows: string[][] = [];
    for (const wire of wires) {
      for (const streams of [1, 2, 4]) rows.push(await row(wire, streams));
    }
    print(table(['', 'streams', 'MB/s', 'a stream', 'sender, s/GB', 'receiver, s/GB'], rows));
  } finally {
    hosts?.remove();
  }
}

async function row(wire: Wire, streams: number): Promise<string[]> {
  const { sender, receiver } = await transfer(wire, streams);
  const bytes = MEGABYTES * 2 ** 20;
  const rate = bytes / 1e6 / receiver.seconds;
  // The sender has sent the same before.
  const [sent, received] = [sender.processor / 2, receiver.processor].map((s) =>
    ((s * 1e9) / bytes).toFixed(2),
  );
  return [wire.name, String(streams), rate.toFixed(0), (rate / streams).toFixed(0), sent!, received!];
}

async function transfer({ ends, listen, raw }: Wire, streams: number) {
  const authority = await Authority.create();
  const [own, other] = await Promise.all([identity(authority, 'a'), identity(authority, 'b')]);
  const isSecure = listen !== null && !raw;
  const [sender, receiver] = ends.map(start) as [ChildProcess, ChildProcess];
  const died = Promise.race([sender, receiver].map(ended));
  // Also when nobody waits for a message.
  died.catch(() => {});
  const message = async (from: ChildProcess) => (await Promise.race([once(from, 'message'), died]))[0];
  try {
    sender.send({ listen, own: isSecure ? own : null, raw } satisfies Sending);
    const { address } = (await message(sender)) as { address: string };
    const proof = isSecure ? { own: other, expected: own.identity } : null;
    receiver.send({ address, proof, streams, megabytes: MEGABYTES / streams, raw } satisfies Receiving);
    const received = (await message(receiver)) as Ended;
    sender.send('over');
    return { sender: (await message(sender)) as Ended, receiver: received };
  } finally {
    for (const child of [sender, receiver]) child.kill('SIGKILL');
  }
}

function start(before: readonly string[]): ChildProcess {
  const [file, ...words] = [...before, process.execPath, ...WORKER_OPTIONS, SCRIPT];
  return spawn(file!, words, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
}

/** Rejects when the process ends: without one of the two, the other would wait for ever. */
async function ended(child: ChildProcess): Promise<never> {
  const [code, signal] = await once(child, 'exit');
  throw new Error(`a process ended early, with ${signal ?? `exit code ${code}`}`);
}

/** The identity of a worker. */
async function identity(authority: Authority, id: string): Promise<Certified> {
  const { privateKey, publicKey } = newKey();
  const who = { role: 'worker', id } as const;
  return {
    identity: { run: authority.run, ...who },
    key: privateKey,
    certificate: await authority.issue(who, publicKey),
    authority: authority.stored.certificate,
  };
}

/** The rate at which one thread encrypts records of TLS, as OpenSSL's own bench has it; or why that is not known. */
function cipherSpeed(cipher: string): string {
  const words = ['speed', '-mr', '-seconds', '1', '-bytes', '16384', '-evp', cipher];
  const { stdout, error, status } = spawnSync('openssl', words, { encoding: 'utf8' });
  const rate = /^\+F:.*:([\d.]+)$/m.exec(stdout ?? '')?.[1];
  if (rate !== undefined) return `${(Number(rate) / 1e6).toFixed(0)} MB/s`;
  return `unknown: ${error === undefined ? `it ended with exit code ${status}` : error.message}`;
}
