/**
 * One host's part in finding out which hosts reach each other, and how fast. It talks with `doctor` in lines of JSON
 * on its standard input and output. Its port takes connections like a worker's: only over TLS, with a certificate of
 * an authority that `doctor` makes for this alone; its key never leaves the process.
 */

import { once } from 'node:events';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { z } from 'zod';
import { medianHigh } from '../averages.js';
import { reasonOf } from '../files/io.js';
import { hostInAddress } from '../rpc/address.js';
import { connectLink, type Link, Unreachable } from '../rpc/links.js';
import { Listener } from '../rpc/listener.js';
import type { Certified } from '../security/identity.js';
import { newKey } from '../security/keys.js';
import { said } from '../text/said.js';
import { localAddressTowards } from './own-address.js';

/** Longest time of a connection. */
const LONGEST_MS = 30_000;
/** Longest time of a connection attempt, with its handshake. */
const CONNECT_MS = 5_000;
/** Without a line for so long, `doctor` is gone and the network has not told. No host takes as long to start. */
const IDLE_MS = 300_000;
const ROUND_TRIPS = 21;
/** How long bytes are received to measure the bandwidth. */
const RECEIVE_MS = 500;
const BLOCK = Buffer.alloc(65_536);
/** What a connection asks for, each a byte: to send it back, or to send blocks until the connection ends. */
const ECHO = 1;
const BLOCKS = 2;

/** What `doctor` says first. */
const setupSchema = z.object({
  run: z.string(),
  id: z.string(),
  certificate: z.string(),
  authority: z.string(),
  /** The host at which this process listens; null: its address towards `towards`. */
  listen: z.string().nullable(),
  /** The address of the machine of `doctor`. */
  towards: z.string(),
  /** 0: any. */
  port: z.number(),
});
export type Setup = z.infer<typeof setupSchema>;

const peerSchema = z.object({ id: z.string(), address: z.string() });
type ProbePeer = z.infer<typeof peerSchema>;

/** What a host says: its public key, then where it listens, then the answer to each peer. */
export const keySchema = z.object({ publicKey: said });
export const problemSchema = z.object({ problem: said });
export const listeningSchema = z.object({ address: said });
export const measuredSchema = z.object({ roundTripSeconds: z.number(), bytesPerSecond: z.number() });
export type Measured = z.infer<typeof measuredSchema>;

/** Runs until its input ends, or nothing has come from there for `idleMs`. */
export async function probeLinks(
  input: Readable,
  output: Writable,
  { idleMs = IDLE_MS, connectMs = CONNECT_MS } = {},
): Promise<void> {
  const say = (line: object) => output.write(`${JSON.stringify(line)}\n`);
  const { privateKey, publicKey } = newKey();
  say({ publicKey: publicKey.toString('base64') } satisfies z.infer<typeof keySchema>);
  const listener = new Listener({ admit: serve, onRefused: () => {} });
  let own: Certified | null = null;
  const lines = createInterface({ input });
  const idle = setTimeout(() => lines.close(), idleMs);
  try {
    for await (const line of lines) {
      idle.refresh();
      try {
        if (own === null) {
          const setup = setupSchema.parse(JSON.parse(line));
          const { run, id, certificate, authority } = setup;
          own = { identity: { run, role: 'worker', id }, key: privateKey, certificate, authority };
          say({ address: await listen(listener, own, setup) });
        } else say(await measure(own, peerSchema.parse(JSON.parse(line)), connectMs));
      } catch (error) {
        say({ problem: reasonOf(error) });
      }
    }
  } finally {
    clearTimeout(idle);
    await listener.close();
  }
}

/** @returns the address under which the other hosts reach it. */
async function listen(listener: Listener, own: Certified, { listen, towards, port }: Setup): Promise<string> {
  const host = hostInAddress(listen ?? (await localAddressTowards(towards)));
  const roles = ['worker'] as const;
  const bound = await listener.listen({ listen: `${host}:${port}`, own, roles, enrolments: null });
  return `${host}:${bound}`;
}

/** Answers a connection of another host. */
function serve(socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), LONGEST_MS);
  socket.once('close', () => clearTimeout(timer));
  socket.on('error', () => {});
  socket.on('data', (bytes: Buffer) => {
    if (bytes.includes(BLOCKS)) {
      socket.removeAllListeners('data').resume();
      const send = () => {
        while (socket.writable && socket.write(BLOCK));
      };
      socket.on('drain', send);
      send();
    } else socket.write(bytes);
  });
}

/** The median of some round trips of a byte, and how fast bytes come in one stream. */
async function measure(own: Certified, { id, address }: ProbePeer, connectMs: number): Promise<Measured> {
  const expected = { run: own.identity.run, role: 'worker', id } as const;
  const socket = await connected({ address, proof: { own, expected } }, connectMs);
  const end = endOf(socket);
  try {
    const trips: number[] = [];
    while (trips.length < ROUND_TRIPS) {
      const started = performance.now();
      const answer = once(socket, 'data');
      socket.write(Buffer.of(ECHO));
      await Promise.race([answer, end]);
      trips.push((performance.now() - started) / 1000);
    }
    const bytesPerSecond = await Promise.race([receive(socket), end]);
    return { roundTripSeconds: medianHigh(trips), bytesPerSecond };
  } finally {
    socket.destroy();
  }
}

async function connected(link: Link, connectMs: number): Promise<Socket> {
  const attempt = new AbortController();
  const unanswered = () => attempt.abort(new Unreachable(`no answer within ${connectMs / 1000} s`));
  const timer = setTimeout(unanswered, connectMs);
  try {
    return await connectLink(link, attempt.signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Rejects when the connection has ended or lasts too long. From now on no error of it ends the process. */
function endOf(socket: Socket): Promise<never> {
  const end = new Promise<never>((_, reject) => {
    const timer = setTimeout(() => reject(new Error('nothing more came')), LONGEST_MS);
    socket.on('error', reject);
    socket.once('close', () => {
      clearTimeout(timer);
      reject(new Error('the connection ended'));
    });
  });
  // Somebody may not wait for it any more.
  end.catch(() => {});
  return end;
}

/** How many bytes a second come after the first ones. */
function receive(socket: Socket): Promise<number> {
  let started = 0;
  let received = 0;
  const measured = new Promise<number>((resolve) => {
    socket.on('data', (bytes: Buffer) => {
      const now = performance.now();
      if (started === 0) started = now;
      else received += bytes.length;
      if (now - started >= RECEIVE_MS) resolve((1000 * received) / (now - started));
    });
  });
  socket.write(Buffer.of(BLOCKS));
  return measured;
}
