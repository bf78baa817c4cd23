/** Any bytes on any port or socket of a run: an error to the sender, and the run goes on, bit for bit. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { socketAddress } from '../../src/rpc/address.js';
import { invite } from '../../src/rpc/invite.js';
import { connectLink } from '../../src/rpc/links.js';
import { PROTOCOL } from '../../src/rpc/protocol.js';
import { parseCredential, type RemoteCredential } from '../../src/security/credential.js';
import { enrol } from '../../src/security/enrolment.js';
import type { Certified, Identity } from '../../src/security/identity.js';
import { newKey } from '../../src/security/keys.js';
import { temporaryFolder } from '../support/folders.js';
import { FULL } from '../support/full.js';
import { GARBAGE, noise } from '../support/garbage.js';
import { ends, fingerprint, Launched, launch, readLines } from '../support/launched.js';

/** Several times as many as are done while garbage is thrown. */
const STEPS = FULL ? 150 : 80;
const NOISE = FULL ? 40 : 8;
/** A run that waits for nothing but its steps. */
const SETS = [
  `schedule.steps=${STEPS}`,
  'validation.every=0',
  'checkpoint.every=0',
  'exchange=grpc',
  'telemetry.metrics_port=0',
].flatMap((set) => ['--set', set]);

const folder = temporaryFolder();

async function open(address: string): Promise<Socket> {
  const socket = connect(socketAddress(address));
  // Being reset is one of the answers.
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Sends bytes and no more, and reads what comes back until the other side ends the connection. */
async function answerTo(socket: Socket, bytes: Buffer): Promise<string> {
  let answer = '';
  socket.setEncoding('latin1');
  socket.on('data', (text: string) => {
    answer += text;
  });
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.end(bytes);
  await closed;
  return answer;
}

/** Nothing, or a record of TLS that says why (RFC 8446, section 5.1). */
const isAlert = (answer: string) => answer === '' || (answer.charCodeAt(0) === 21 && answer.length === 7);

/** A connection of somebody who has a certificate of the run. */
async function openWith(address: string, own: Certified, expected: Identity): Promise<Socket> {
  const socket = await connectLink({ address, proof: { own, expected } }, AbortSignal.timeout(30_000));
  socket.on('error', () => {});
  return socket;
}

/** The certificate of a process that was invited. */
async function enrolAt(local: string): Promise<{ own: Certified; control: string }> {
  const line = await invite(local, { uses: 1, seconds: 60, worker: null });
  const credential = parseCredential(line, 'the answer') as RemoteCredential;
  const socket = await open(credential.address);
  const { own } = await enrol(credential, { worker: 'garbage', protocol: PROTOCOL, key: newKey(), socket });
  return { own, control: credential.address };
}

test('a run under fire: every sender gets an answer, scrapes are served, and the bits are the same', async () => {
  const reference = join(folder, 'undisturbed');
  expect(await launch(reference, 1, ...SETS)).toMatchObject({ code: 0 });

  const flags = ['--nproc-per-node', '2', '--listen', '127.0.0.1:0'];
  const run = new Launched(join(folder, 'disturbed'), 1, ...SETS, ...flags);
  await run.says('step 2/');
  const local = readFileSync(join(run.runDir, 'secrets', 'credential'), 'utf8');
  const { own, control } = await enrolAt(local);
  const metrics = /metrics at http:\/\/(\S+)\/metrics/.exec(run.output)![1]!;
  const [generation] = readLines(join(run.runDir, 'journal.jsonl')) as {
    workers: { id: string; dataAddress: string; localAddress: string }[];
  }[];
  const { workers } = generation!;
  const [{ id, dataAddress: data, localAddress }] = workers as [(typeof workers)[number]];
  /** Within the machine, processes of the same user reach HTTP/2 and gRPC. */
  const trusting = [local, localAddress];
  /** So do workers of the run, over a network. */
  const expected: Identity = { run: own.identity.run, role: 'worker', id };

  const scrape = async () => {
    const response = await fetch(`http://${metrics}/metrics`);
    expect(response.status).toBe(200);
    expect(await response.text()).toContain('orchestrator_committed_steps ');
  };
  const all = [...GARBAGE, ...Array.from({ length: NOISE }, (_, i) => [`noise ${i}`, noise(i)] as const)];
  // Some connections send something, or nothing, and stay.
  const lingering = await Promise.all([metrics, control, data, ...trusting].map(open));
  for (const [i, socket] of lingering.entries()) if (i % 2 === 0) socket.write('o');
  for (const [name, bytes] of all) {
    const at = (address: string) => open(address).then((socket) => answerTo(socket, bytes));
    const [scraped, ...gated] = await Promise.all([at(metrics), ...[control, data].map(at)]);
    expect(scraped, name).toMatch(/^(HTTP\/1\.1 [2345]\d\d |$)/);
    if (name === 'HTTP/1: CONNECT') expect(scraped).toMatch(/^HTTP\/1\.1 405 /);
    // An alert of TLS at most.
    for (const answer of gated) expect(answer, name).toSatisfy(isAlert);
    const inside = [...trusting.map((address) => open(address)), openWith(data, own, expected)];
    // Not all of them are sent away.
    for (const socket of await Promise.all(inside)) {
      socket.resume();
      socket.end(bytes);
      lingering.push(socket);
    }
    for (const address of [metrics, control]) (await open(address)).resetAndDestroy();
    await scrape();
  }
  const crowd = await Promise.all(
    Array.from({ length: 200 }, (_, i) => open([metrics, control, data, local][i % 4]!)),
  );
  await scrape();
  for (const socket of [...lingering, ...crowd]) socket.destroy();

  expect(run.process.exitCode).toBe(null);
  await ends(run.outcome, 0);
  expect(fingerprint(run.runDir, STEPS)).toEqual(fingerprint(reference, STEPS));
  // However much was refused, the log has a few lines of it.
  const refusals = run.output.split('\n').filter((line) => line.includes('refused '));
  expect(refusals.length).toBeGreaterThan(3);
  expect(refusals.length).toBeLessThan(40);
});
