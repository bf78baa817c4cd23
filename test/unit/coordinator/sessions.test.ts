import { once } from 'node:events';
import { createConnection } from 'node:net';
import { type ServiceError, status } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Event } from '../../../src/coordinator/events.js';
import { Sessions } from '../../../src/coordinator/sessions.js';
import { Coordinator, type FromWorker, PROTOCOL } from '../../../src/rpc/proto.js';
import { TokenCredentials } from '../../../src/rpc/token-credentials.js';
import { JOIN } from '../../support/join.js';

let sessions: Sessions;
let address: string;
let events: Event[];
let refused: string[];
let clients: InstanceType<typeof Coordinator>[];
beforeEach(async () => {
  [events, refused, clients] = [[], [], []];
  sessions = new Sessions({
    token: 'secret',
    workers: 2,
    generation: () => 3,
    onEvent: (event) => events.push(event),
    onRefused: (message) => refused.push(message),
  });
  address = await sessions.listen('127.0.0.1:0');
});
afterEach(async () => {
  for (const client of clients) client.close();
  await sessions.close(1_000);
});

/** A connection that sends these messages; `end` resolves with the status by which it ends. */
function connect(...messages: FromWorker[]) {
  const client = new Coordinator(address, new TokenCredentials('secret', () => {}));
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
  ['malformed Join', { join: { ...JOIN, host: 'h'.repeat(257) } }, status.INVALID_ARGUMENT],
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
  connect({ join: { ...JOIN, workerId: 'a\u001b]0;b', host: '\u009bh' } }, { failure });
  await eventually(2);
  expect(events).toMatchObject([
    { type: 'joined', id: 'a]0;b', host: 'h' },
    { type: 'failure', failure: { code: 'ERR_X', message: 'line\nred [31m', hint: '' } },
  ]);
});

test('a worker has one session on its connection', async () => {
  const client = new Coordinator(address, new TokenCredentials('secret', () => {}));
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

test('a connection that says nothing does not hold up the end', async () => {
  const socket = createConnection({ host: '127.0.0.1', port: Number(address.split(':')[1]) });
  socket.on('error', () => {});
  await once(socket, 'connect');
  await sessions.close(100);
  socket.destroy();
});

test('a session that ends is a lost worker', async () => {
  const { stream } = connect({ join: JOIN });
  await eventually(1);
  stream.end();
  await eventually(2);
  expect(events[1]).toEqual({ type: 'lost', id: 'a', reason: 'it ended its session' });
});
