import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { pipeline } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Sessions } from '../../../src/coordinator/sessions.js';
import type { Heartbeat, Welcome } from '../../../src/rpc/proto.js';
import type { Certified, Identity } from '../../../src/security/identity.js';
import { CoordinatorSession } from '../../../src/worker/session.js';
import { JOIN } from '../../support/join.js';
import { type TestRun, testRun } from '../../support/members.js';

const WELCOME = { configJson: '{}', workers: 1, runDir: 'runs/x', planJson: '[]', isa: '' };

let sessions: Sessions;
let address: string;
let session: CoordinatorSession;
let heard: Heartbeat[];
beforeEach(async () => {
  heard = [];
  sessions = new Sessions({
    workers: 1,
    generation: () => 1,
    onEvent: (event) => {
      if (event.type === 'joined') sessions.send(null, { welcome: WELCOME });
      if (event.type === 'heartbeat') heard.push(event.heartbeat);
    },
    invite: () => null,
    onRefused: () => {},
  });
  address = await sessions.listenLocally();
  session = new CoordinatorSession({ address, proof: null });
});
afterEach(async () => {
  session.close();
  await sessions.close(1_000);
});

test('messages that came before the end are handed on in order, then the end', async () => {
  expect(await session.join(JOIN)).toEqual(WELCOME);
  sessions.send(null, { generation: 1, start: { step: 4 } });
  sessions.send(null, { generation: 1, commit: { stop: true } });
  sessions.send(null, { generation: 1, stop: { exitCode: 143 } });
  await expect(session.over).rejects.toMatchObject({ exitCode: 143 });
  expect(await session.next('start')).toMatchObject({ step: 4 });
  expect(await session.next('commit')).toMatchObject({ checkpoint: false, stop: true });
  await expect(session.next('commit')).rejects.toMatchObject({ exitCode: 143 });
});

test('heartbeats say what the threads of the process are at', async () => {
  await session.join(JOIN);
  session.validated = 3;
  await expect.poll(() => heard).not.toEqual([]);
  // Other tests of this process may have computed.
  expect(heard[0]).toEqual({ validated: 3, stage: 'IDLE', ticks: expect.any(Number) });
});

test('whoever waits for a message gets the end', async () => {
  await session.join(JOIN);
  const waits = session.formation();
  sessions.send(null, { generation: 1, stop: { exitCode: 1 } });
  await expect(waits).rejects.toMatchObject({ exitCode: 1 });
});

test('a coordinator that goes away is named by its address', async () => {
  await session.join(JOIN);
  const lost = expect(session.formation()).rejects.toThrow(
    /^Lost the coordinator at unix-abstract:orchestrator-\w+: it ended the session$/,
  );
  await sessions.close(1_000);
  await lost;
});

test('a request to stop is known at once, before the messages that came earlier are read', async () => {
  await session.join(JOIN);
  expect(session.draining).toBe(false);
  sessions.send(null, { generation: 1, start: { step: 4 } });
  sessions.send(null, { generation: 1, drain: {} });
  sessions.send(null, { generation: 1, commit: { stop: true } });
  while (!session.draining) await new Promise((resolve) => setImmediate(resolve));
  expect(await session.next('start')).toMatchObject({ step: 4 });
  expect(await session.next('commit')).toMatchObject({ stop: true });
});

test('messages of an older generation are left out, and one of another kind is an error', async () => {
  await session.join(JOIN);
  sessions.send(null, { generation: 2, form: { rank: 1 } });
  sessions.send(null, { generation: 1, form: { rank: 0 } });
  sessions.send(null, { generation: 2, start: { step: 0 } });
  expect(await session.formation()).toMatchObject({ rank: 1 });
  await expect(session.next('sync')).rejects.toThrow('The coordinator sent start where sync was expected');
});

test('the next generation is told at once, and comes after what was sent before it', async () => {
  await session.join(JOIN);
  sessions.send(null, { generation: 1, form: { rank: 0 } });
  expect(await session.formation()).toMatchObject({ rank: 0 });
  expect(session.generation).toBe(1);
  const { regrouped } = session;
  sessions.send(null, { generation: 1, commit: { step: 1 } });
  sessions.send(null, { generation: 2, form: { rank: 1 } });
  await expect.poll(() => regrouped.aborted).toBe(true);
  // The step is applied, and what it gives is still of the first generation.
  expect(await session.next('commit')).toMatchObject({ step: 1 });
  expect(session.generation).toBe(1);
  await expect(session.next('commit')).rejects.toThrow('the next generation forms');
  expect(await session.formation()).toMatchObject({ rank: 1 });
  expect(session.generation).toBe(2);
  expect(session.regrouped.aborted).toBe(false);
});

test('of several generations that have formed meanwhile, the last counts', async () => {
  await session.join(JOIN);
  sessions.send(null, { generation: 1, form: { rank: 0 } });
  sessions.send(null, { generation: 1, sync: {} });
  sessions.send(null, { generation: 2, form: { rank: 1 } });
  sessions.send(null, { generation: 2, sync: { keep: {} } });
  while (!session.regrouped.aborted) await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(await session.formation()).toMatchObject({ rank: 1 });
  expect(await session.next('sync')).toMatchObject({ source: 'keep' });
});

describe('over a network', () => {
  let run: TestRun;
  let port: number;
  beforeEach(async () => {
    run = await testRun();
    port = await sessions.listen({ listen: '127.0.0.1:0', own: run.coordinator, enrolments: null });
  });

  async function join(own: Certified, expected: Identity, through = port): Promise<Welcome> {
    const worker = new CoordinatorSession({ address: `127.0.0.1:${through}`, proof: { own, expected } });
    try {
      return await worker.join(JOIN);
    } finally {
      worker.close();
    }
  }

  test('a connection that the coordinator drops is tried again', async () => {
    let dropped = 0;
    const flooded = createServer((socket) => {
      if (dropped++ < 2) return void socket.destroy();
      pipeline(socket, connect(port, '127.0.0.1'), socket, () => {});
    });
    await once(flooded.listen(0, '127.0.0.1'), 'listening');
    const through = (flooded.address() as AddressInfo).port;
    expect(await join(await run.worker('a'), run.coordinator.identity, through)).toEqual(WELCOME);
    expect(dropped).toBe(3);
    flooded.close();
  });

  test('whoever listens in place of the coordinator is found out at once', async () => {
    const own = await run.worker('a');
    const other = { ...run.coordinator.identity, run: 'another' };
    await expect(join(own, other)).rejects.toMatchObject({
      code: 'ERR_TOKEN',
      message: expect.stringMatching(
        /is not the coordinator: its certificate is for orchestrator:\/\/\w+\/coordinator, not /,
      ),
    });
    const stranger = await testRun();
    await expect(join(await stranger.worker('a'), stranger.coordinator.identity)).rejects.toMatchObject({
      code: 'ERR_TOKEN',
    });
  });

  test("a worker cannot join with another's certificate", async () => {
    await expect(join(await run.worker('b'), run.coordinator.identity)).rejects.toMatchObject({
      code: 'ERR_PROTOCOL',
      message: expect.stringContaining('worker a has the certificate of worker b'),
    });
  });
});
