/** Any bytes on any port or socket of a run: an error to the sender, and the run goes on, bit for bit. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { socketAddress } from '../../src/rpc/transport.js';
import { temporaryFolder } from '../support/folders.js';
import { FULL } from '../support/full.js';
import { GARBAGE, noise } from '../support/garbage.js';
import { ends, environmentOf, fingerprint, Launched, launch, readLines } from '../support/launched.js';

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

/** A connection of somebody who has the token. */
async function openWithToken(address: string, token: string): Promise<Socket> {
  const socket = await open(address);
  socket.write(`orchestrator ${createHash('sha256').update(token).digest('hex')}\n`);
  await once(socket, 'readable');
  expect(String(socket.read(3))).toBe('ok\n');
  return socket;
}

test('a run under fire: every sender gets an answer, scrapes are served, and the bits are the same', async () => {
  const reference = join(folder, 'undisturbed');
  expect(await launch(reference, 1, ...SETS)).toMatchObject({ code: 0 });

  const run = new Launched(join(folder, 'disturbed'), 2, ...SETS);
  await run.says('step 2/');
  const { ORCHESTRATOR_COORDINATOR: control, ORCHESTRATOR_TOKEN: token } = environmentOf(run.workers()[0]!);
  const metrics = /metrics at http:\/\/(\S+)\/metrics/.exec(run.output)![1]!;
  const [generation] = readLines(join(run.runDir, 'journal.jsonl')) as {
    workers: { dataAddress: string }[];
  }[];
  const data = generation!.workers.map(({ dataAddress }) => dataAddress);

  const scrape = async () => {
    const response = await fetch(`http://${metrics}/metrics`);
    expect(response.status).toBe(200);
    expect(await response.text()).toContain('orchestrator_committed_steps ');
  };
  const all = [...GARBAGE, ...Array.from({ length: NOISE }, (_, i) => [`noise ${i}`, noise(i)] as const)];
  // Some connections send something, or nothing, and stay.
  const lingering = await Promise.all([metrics, control!, ...data].map(open));
  for (const [i, socket] of lingering.entries()) if (i % 2 === 0) socket.write('o');
  for (const [name, bytes] of all) {
    const at = (address: string) => open(address).then((socket) => answerTo(socket, bytes));
    const [scraped, ...gated] = await Promise.all([at(metrics), ...[control!, ...data].map(at)]);
    expect(scraped, name).toMatch(/^(HTTP\/1\.1 [2345]\d\d |$)/);
    if (name === 'HTTP/1: CONNECT') expect(scraped).toMatch(/^HTTP\/1\.1 405 /);
    for (const answer of gated) expect(answer, name).toMatch(/^(HTTP\/1\.1 403 |$)/);
    // Those who have the token reach HTTP/2 and gRPC. Not all of them are sent away.
    for (const address of [control!, data[0]!]) {
      const socket = await openWithToken(address, token!);
      socket.resume();
      socket.end(bytes);
      lingering.push(socket);
    }
    for (const address of [metrics, control!]) (await open(address)).resetAndDestroy();
    await scrape();
  }
  const crowd = await Promise.all(
    Array.from({ length: 200 }, (_, i) => open([metrics, control!, ...data][i % 4]!)),
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
