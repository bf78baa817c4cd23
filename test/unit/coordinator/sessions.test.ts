import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { createConnection, createServer } from 'node:net';
import { type ServiceError, status } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Presence, Sessions } from '../../../src/coordinator/sessions.js';
import { channelTarget, socketAddress } from '../../../src/rpc/address.js';
import { invite } from '../../../src/rpc/invite.js';
import { connectLink, LinkCredentials } from '../../../src/rpc/links.js';
import { localAddress } from '../../../src/rpc/local.js';
import { CONTROL_MESSAGE_BYTES } from '../../../src/rpc/message-size.js';
import { Coordinator, type FromWorker } from '../../../src/rpc/proto.js';
import { PROTOCOL } from '../../../src/rpc/protocol.js';
import type { Event } from '../../../src/rule/events.js';
import { JOIN } from '../../support/join.js';
import { testRun } from '../../support/members.js';

let sessions: Sessions;
let address: string;
let events: Event[];
let refused: string[];
let present: [string, Presence][];
let pids: Set<number>;
let invited: (string | null)[];
let clients: InstanceType<typeof Coordinator>[];
beforeEach(async () => {
  [events, refused, clients, invited, present, pids] = [[], [], [], [], [], new Set()];
  sessions = new Sessions({
    workers: 2,
    lastGeneration: 2,
    since: 2,
    generation: () => 3,
    onEvent: (event) => events.push(event),
    onMember: (id, presence, pid) => {
      pids.add(pid);
      present.push([id, presence]);
    },
    invite: ({ uses, seconds, worker }) => {
      invited.push(worker);
      return uses > 1 ? null : `${uses} ${seconds} ${worker}`;
    },
    onRefused: (message) => refused.push(message),
  });
  address = await sessions.listenLocally();
});
afterEach(async () => {
  for (const client of clients) client.close();
  await sessions.close(0);
});

/** A connection that sends these messages; `end` resolves with the status by which it ends. */
function connect(...messages: FromWorker[]) {
  return connectAt(address, ...messages);
}

function connectAt(address: string, ...messages: FromWorker[]) {
  const client = new Coordinator(channelTarget(address), new LinkCredentials(null, () => {}));
  clients.push(client);
  const stream = client.Session();
  const end = new Promise<ServiceError>((resolve) => stream.on('error', resolve));
  for (const message of messages) stream.write(message);
  return { stream, end };
}

/** Waits until as many events have come. */
const eventually = (count: number) => expect.poll(() => events, { timeout: 15_000 }).toHaveLength(count);

test.each<[string, FromWorker, status]>([
  ['the first message was not Join', { heartbeat: {} }, status.FAILED_PRECONDITION],
  [
    'mixed versions of orchestrator',
    { join: { ...JOIN, protocol: PROTOCOL - 1 } },
    status.FAILED_PRECONDITION,
  ],
  [
    'its program has build 1f2e3d4c5b6a, that of the coordinator build ',
    { join: { ...JOIN, build: '1f2e3d4c5b6a' } },
    status.FAILED_PRECONDITION,
  ],
  ['holds the state from before', { generation: 1, join: JOIN }, status.FAILED_PRECONDITION],
  [
    'the run has no generation 9007199254740991',
    { generation: Number.MAX_SAFE_INTEGER, join: JOIN },
    status.INVALID_ARGUMENT,
  ],
  ['malformed Join', { join: { ...JOIN, host: 'h'.repeat(257) } }, status.INVALID_ARGUMENT],
  ['malformed Join', { join: { ...JOIN, dataAddress: 'node1' } }, status.INVALID_ARGUMENT],
  ['malformed Join', { join: { ...JOIN, localAddress: '127.0.0.1:70000' } }, status.INVALID_ARGUMENT],
  ['malformed Join', { join: { ...JOIN, instructionSets: ['i'.repeat(257)] } }, status.INVALID_ARGUMENT],
  ['malformed Join', { join: { ...JOIN, instructionSets: Array(99).fill('i') } }, status.INVALID_ARGUMENT],
])('a connection is refused: %s', async (details, message, code) => {
  expect(await connect(message).end).toMatchObject({ code, details: expect.stringContaining(details) });
  expect(refused).toEqual([expect.stringContaining(details)]);
  expect(events).toEqual([]);
});

test('a worker that joins again takes the place of its former process', async () => {
  const former = connect({ join: JOIN });
  await eventually(1);
  const { stream } = connect({ join: { ...JOIN, pid: 8 } });
  expect(await former.end).toMatchObject({
    code: status.ALREADY_EXISTS,
    details: 'worker a has joined again',
  });
  stream.write({ heartbeat: {} });
  await eventually(3);
  expect(events).toMatchObject([
    { type: 'joined', id: 'a', pid: 7 },
    { type: 'joined', id: 'a', pid: 8 },
    { type: 'heartbeat', id: 'a' },
  ]);
});

test('a worker of before is refused where another process is there in its place, not one that comes again', async () => {
  const late = { generation: 2, join: JOIN };
  connect({ join: { ...JOIN, pid: 8 } });
  await eventually(1);
  expect(await connect(late).end).toMatchObject({
    code: status.FAILED_PRECONDITION,
    details: 'another process has come as worker a meanwhile',
  });
  expect(events).toMatchObject([{ type: 'joined', id: 'a', pid: 8 }]);
  // Whose connection broke, also before it was in a generation of this coordinator.
  connect({ generation: 2, join: { ...JOIN, workerId: 'b' } });
  await eventually(2);
  connect({ generation: 2, join: { ...JOIN, workerId: 'b' } });
  await eventually(3);
  connect({ generation: 3, join: { ...JOIN, pid: 8 } });
  await eventually(4);
  expect(events.at(-1)).toMatchObject({ type: 'joined', id: 'a', pid: 8, newest: 3 });
});

test('whoever starts workers hears who is here, who was lost, and who was told to end', async () => {
  const [a, b] = [connect({ join: JOIN }), connect({ join: { ...JOIN, workerId: 'b' } })];
  await eventually(2);
  sessions.send(['a'], { stop: { exitCode: 143 } });
  for (const { stream } of [a, b]) stream.end();
  await eventually(4);
  expect(present).toEqual(
    expect.arrayContaining([
      ['a', 'here'],
      ['b', 'here'],
      ['a', 'released'],
      ['b', 'lost'],
    ]),
  );
  expect([...pids]).toEqual([JOIN.pid]);
});

test('a worker cannot fill the files and the status of the run with its texts', async () => {
  const { stream } = connect({ join: JOIN });
  stream.write({ standby: { arithmetic: 'a'.repeat(2000) } });
  stream.write({ generation: 3, ready: { device: 'd'.repeat(2000) } });
  await eventually(3);
  expect(events.slice(1)).toMatchObject([
    { type: 'standby', standby: { arithmetic: 'a'.repeat(1024) } },
    { type: 'ready', ready: { device: 'd'.repeat(1024) } },
  ]);
});

test('messages of earlier generations are left out and those of later ones refused, but not those that may come at any time', async () => {
  const { stream } = connect({ join: JOIN });
  for (const generation of [2, 3, 4]) stream.write({ generation, prepared: { step: generation } });
  stream.write({ generation: 0, heartbeat: {} });
  stream.write({ generation: 0, leave: { exitCode: 143 } });
  await eventually(4);
  expect(events.slice(1)).toMatchObject([
    { type: 'prepared', id: 'a', prepared: { step: 3 } },
    { type: 'heartbeat' },
    { type: 'leave', leave: { exitCode: 143 } },
  ]);
  expect(refused).toEqual(['prepared of generation 4 from worker a']);
});

test('no text of a worker controls a terminal', async () => {
  const failure = { code: 'ERR_X', message: 'line\nred \u001b[31m\u0007\u202e', hint: '\r' };
  const names = { workerId: 'a\u001b]0;b', host: '\u009bh\nerror: x', instructionSets: ['avx2\nx'] };
  connect({ join: { ...JOIN, ...names } }, { failure });
  await eventually(2);
  expect(events).toMatchObject([
    { type: 'joined', id: 'a]0;b', host: 'h error: x', instructionSets: ['avx2 x'] },
    { type: 'failure', failure: { code: 'ERR_X', message: 'line\nred [31m', hint: '' } },
  ]);
});

test('a message of more than 16 MiB ends the session, and is not read', async () => {
  const { stream, end } = connect({ join: JOIN });
  await eventually(1);
  stream.write({ failure: { code: 'ERR_X', message: 'x'.repeat(CONTROL_MESSAGE_BYTES), hint: '' } });
  expect(await end).toMatchObject({ code: status.RESOURCE_EXHAUSTED });
  await eventually(2);
  expect(events[1]).toMatchObject({ type: 'lost', id: 'a' });
});

test('a worker has one session on its connection', async () => {
  const client = new Coordinator(channelTarget(address), new LinkCredentials(null, () => {}));
  clients.push(client);
  const [first, second] = [client.Session(), client.Session()];
  for (const stream of [first, second]) stream.on('error', () => {});
  first.write({ join: JOIN });
  second.write({ join: { ...JOIN, workerId: 'b' } });
  await eventually(1);
  // The second is not refused, but has to wait for the first.
  first.write({ generation: 3, finished: {} });
  await eventually(2);
  expect(events).toMatchObject([{ type: 'joined', id: 'a' }, { type: 'finished' }]);
  first.end();
  await eventually(4);
  expect(events.slice(2)).toMatchObject([
    { type: 'lost', id: 'a' },
    { type: 'joined', id: 'b' },
  ]);
});

test('texts about a device are cut, because they go to all workers', async () => {
  const device = { gpu: 'g', library: 'l', uniqueId: '', problem: 'p'.repeat(5_000) };
  connect({ join: JOIN }, { generation: 3, formed: { device } });
  await eventually(2);
  const cut = { ...device, problem: 'p'.repeat(1024) };
  expect(events[1]).toMatchObject({ type: 'formed', formed: { device: cut } });
});

test('a connection that says nothing does not hold up the end', { timeout: 30_000 }, async () => {
  const socket = createConnection(socketAddress(address));
  socket.on('error', () => {});
  await once(socket, 'connect');
  // It would wait so long for a session.
  await sessions.close(300_000);
  socket.destroy();
});

test('a session that ends is a lost worker', async () => {
  const { stream } = connect({ join: JOIN });
  await eventually(1);
  stream.end();
  await eventually(2);
  expect(events[1]).toEqual({ type: 'lost', id: 'a', reason: 'it ended its session' });
});

test('a process of the machine gets a credential, if the run listens on a network', async () => {
  expect(await invite(address, { uses: 1, seconds: 60, worker: 'local-1' })).toBe('1 60 local-1');
  expect(await invite(address, { uses: 1, seconds: 0.5, worker: null })).toBe('1 0.5 null');
  for (const rules of [
    { uses: 0, seconds: 60 },
    { uses: 1, seconds: -1 },
    { uses: 1, seconds: 1e9 },
  ]) {
    await expect(invite(address, { ...rules, worker: null })).rejects.toMatchObject({ code: 'ERR_TOKEN' });
  }
  await expect(invite(address, { uses: 2, seconds: 60, worker: null })).rejects.toMatchObject({
    code: 'ERR_USAGE',
    message: 'No worker can be invited: the run is for this machine alone',
  });
});

test('a worker of another machine cannot invite others', async () => {
  const run = await testRun();
  const port = await sessions.listen({ listen: '127.0.0.1:0', own: run.coordinator, enrolments: null });
  const proof = { own: await run.worker('a'), expected: run.coordinator.identity };
  const client = new Coordinator(`127.0.0.1:${port}`, new LinkCredentials(proof, () => {}));
  clients.push(client);
  const answer = new Promise((resolve) => client.Invite({ uses: 1, seconds: 60 }, resolve));
  expect(await answer).toMatchObject({ code: status.PERMISSION_DENIED });
});

test('one that the others go on without is told so, and one that cannot take part otherwise', async () => {
  const join = (workerId: string) => connect({ join: { ...JOIN, workerId } });
  const [cut, away, refused] = [join('cut'), join('away'), join('refused')];
  await eventually(3);
  sessions.cut('cut', 'no sign of life', { isSilent: true });
  sessions.cut('away', 'has come too late', { mayReturn: true });
  sessions.refuse('refused', 'other arithmetic');
  expect(await cut.end).toMatchObject({ code: status.ABORTED, details: 'no sign of life' });
  expect(await away.end).toMatchObject({ code: status.UNAVAILABLE });
  const ends = present.filter(([, presence]) => presence !== 'here');
  expect(ends).toEqual([
    ['cut', 'cutOff'],
    ['away', 'lost'],
    ['refused', 'lost'],
  ]);
  expect(await refused.end).toMatchObject({ code: status.FAILED_PRECONDITION, details: 'other arithmetic' });
});

test('the end does not wait for workers of which nothing is heard', async () => {
  // A link that is cut: what arrives there stays there.
  const link = createServer((near) => {
    const far = createConnection(socketAddress(address) as { path: string });
    near.pipe(far).pipe(near);
    cut.push(() => {
      near.unpipe();
      far.unpipe();
    });
  });
  const cut: (() => void)[] = [];
  const there = localAddress();
  link.listen(socketAddress(there));
  await once(link, 'listening');
  connectAt(there, { join: JOIN });
  connectAt(there, { join: { ...JOIN, workerId: 'b' } });
  await eventually(2);
  for (const one of cut) one();
  sessions.cut('a', 'no sign of life', { isSilent: true });
  sessions.send(null, { stop: { exitCode: 0 } });
  await sessions.close(600_000);
  link.close();
  // What it was told has not come there.
  expect(present.slice(2)).toEqual([
    ['a', 'cutOff'],
    ['b', 'cutOff'],
  ]);
});

test('the texts of a failure are cut off', async () => {
  const failure = { code: 'C'.repeat(5_000), message: 'm'.repeat(5_000), hint: 'h' };
  connect(
    { join: JOIN },
    { failure },
    { notSaved: { step: 1, failure } },
    { generation: 3, suspect: { why: 'w'.repeat(5_000) } },
  );
  await eventually(4);
  const short = { code: 'C'.repeat(4_096), message: 'm'.repeat(4_096), hint: 'h' };
  expect(events.slice(1)).toMatchObject([
    { failure: short },
    { notSaved: { failure: short } },
    { suspect: { why: 'w'.repeat(4_096) } },
  ]);
});

test('a connection that ends at once does not count as one within the machine', async () => {
  const run = await testRun();
  const port = await sessions.listen({ listen: '127.0.0.1:0', own: run.coordinator, enrolments: null });
  const proof = { own: await run.worker('b'), expected: run.coordinator.identity };
  const body = Buffer.concat([Buffer.from([0, 0, 0, 0, 11, 8, 1, 0x11]), Buffer.alloc(8, 0x40)]);
  for (let i = 0; i < 20; i++) {
    const socket = await connectLink({ address: `127.0.0.1:${port}`, proof }, AbortSignal.timeout(15_000));
    const client = connectHttp2('http://x', { createConnection: () => socket });
    client.on('error', () => {});
    const path = '/orchestrator.v1.Coordinator/Invite';
    const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
    // The request ends with its connection, after which there is no certificate to be seen.
    const sent = client.request(headers).on('error', () => {});
    await new Promise((resolve) => sent.write(body, resolve));
    await once(client, 'remoteSettings');
    client.destroy();
  }
  // They were served in turn.
  const answer = await invite(address, { uses: 1, seconds: 60, worker: 'last' });
  expect([answer, ...invited]).toEqual(['1 60 last', 'last']);
});
