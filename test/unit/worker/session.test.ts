import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { pipeline } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Sessions } from '../../../src/coordinator/sessions.js';
import { CONTROL_MESSAGE_BYTES } from '../../../src/rpc/message-size.js';
import type { Heartbeat, Welcome } from '../../../src/rpc/proto.js';
import type { Event } from '../../../src/rule/events.js';
import type { Certified, Identity } from '../../../src/security/identity.js';
import { Levelled, Regrouped } from '../../../src/worker/interruptions.js';
import { CoordinatorSession } from '../../../src/worker/session.js';
import { JOIN } from '../../support/join.js';
import { type TestRun, testRun } from '../../support/members.js';

const WELCOME = {
  configJson: '{}',
  workers: 1,
  runDir: 'runs/x',
  planJson: '[]',
  patienceSeconds: 60,
  isa: '',
};

/** A Form in which this worker has the rank. */
const formOf = (rank: number) => ({
  members: Array.from({ length: rank + 1 }, (_, r) => ({ id: r === rank ? JOIN.workerId : `other-${r}` })),
});

let sessions: Sessions;
let address: string;
let session: CoordinatorSession;
let heard: Heartbeat[];
/** With what the worker has said that it computes. */
let stoodBy: string[];
let patience: number;
beforeEach(async () => {
  patience = 60;
  heard = [];
  stoodBy = [];
  sessions = new Sessions({
    workers: 1,
    lastGeneration: 0,
    since: 1,
    generation: () => 1,
    onEvent: (event) => {
      if (event.type === 'joined')
        sessions.send(null, { welcome: { ...WELCOME, patienceSeconds: patience } });
      if (event.type === 'standby') stoodBy.push(event.standby.arithmetic);
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

describe('the instruction set of the run', () => {
  const welcome = (isa: string) => sessions.send(null, { welcome: { ...WELCOME, isa } });

  test('may change until the first generation: the worker does not stand by, and builds again', async () => {
    await session.join(JOIN);
    welcome('avx512');
    await expect.poll(() => session.takeIsa()).toBe('avx512');
    session.standBy(() => ({ withoutRunFolder: false, arithmetic: 'isa avx512' }));
    await expect.poll(() => stoodBy).toEqual(['isa avx512']);
    const waits = expect(session.formation()).rejects.toBeInstanceOf(Levelled);
    welcome('avx2');
    await waits;

    // It changes again while it is built.
    expect(session.takeIsa()).toBe('avx2');
    welcome('generic');
    await expect(session.formation()).rejects.toBeInstanceOf(Levelled);
    session.standBy(() => ({ withoutRunFolder: false, arithmetic: 'isa avx2' }));
    await expect(session.formation()).rejects.toBeInstanceOf(Levelled);
    expect(session.takeIsa()).toBe('generic');
    session.standBy(() => ({ withoutRunFolder: false, arithmetic: 'isa generic' }));
    await expect.poll(() => stoodBy).toEqual(['isa avx512', 'isa generic']);
    sessions.send(null, { generation: 1, form: formOf(0) });
    expect(await session.formation()).toMatchObject({ rank: 0 });
  });

  test('stays after it: the worker says again what it computes with, and the coordinator judges', async () => {
    await session.join(JOIN);
    session.standBy(() => ({ withoutRunFolder: false, arithmetic: 'isa avx512' }));
    sessions.send(null, { generation: 1, form: formOf(0) });
    await session.formation();
    welcome('avx2');
    await expect.poll(() => stoodBy).toHaveLength(2);
    sessions.send(null, { generation: 2, form: formOf(0) });
    expect(await session.formation()).toMatchObject({ rank: 0 });
  });
});

test('heartbeats say what the threads of the process are at', async () => {
  await session.join(JOIN);
  session.validated = 3;
  await expect.poll(() => heard).not.toEqual([]);
  // Other tests of this process may have computed.
  expect(heard[0]).toEqual({ validated: 3, stage: 'IDLE', ticks: expect.any(Number) });
});

test('a message that is too large ends the session in words, and is not tried again', async () => {
  await session.join(JOIN);
  session.send({ failure: { code: 'ERR_X', message: 'x'.repeat(CONTROL_MESSAGE_BYTES), hint: '' } });
  await expect(session.over).rejects.toMatchObject({
    code: 'ERR_PROTOCOL',
    message: expect.stringMatching(/^A message between this worker and the coordinator at .* is too large/),
  });
});

test('whoever waits for a message gets the end', async () => {
  await session.join(JOIN);
  const waits = session.formation();
  sessions.send(null, { generation: 1, stop: { exitCode: 1 } });
  await expect(waits).rejects.toMatchObject({ exitCode: 1 });
});

describe('a coordinator that goes away', () => {
  /** What the next coordinator is told. */
  const told: Event[] = [];
  /** What the worker says to its user. */
  const said: string[] = [];
  let next: Sessions | null = null;
  beforeEach(() => {
    told.length = 0;
    said.length = 0;
    next = null;
    moved = null;
    session = new CoordinatorSession(
      { address, proof: null },
      { note: (text) => said.push(text), addressOf: () => moved },
    );
  });
  afterEach(() => next?.close(1_000));

  /** Where the run folder says that the coordinator listens. */
  let moved: string | null = null;

  async function comesBack(welcome: Welcome = WELCOME, elsewhere = false): Promise<Sessions> {
    next = new Sessions({
      workers: 1,
      lastGeneration: 0,
      since: 1,
      generation: () => 4,
      onEvent: (event) => {
        told.push(event);
        if (event.type === 'joined') next!.send(null, { generation: 4, welcome });
      },
      invite: () => null,
      onRefused: () => {},
    });
    const at = await next.listenLocally(elsewhere ? null : address);
    expect(at === address).toBe(!elsewhere);
    moved = at;
    return next;
  }

  test('is named by its address if no other comes in time', async () => {
    patience = 0.01;
    await session.join(JOIN);
    const lost = expect(session.formation()).rejects.toThrow(
      /^Lost the coordinator at unix-abstract:orchestrator-\w+: .*; no other has come within 1 s$/,
    );
    await sessions.close(1_000);
    await lost;
  });

  test('comes back: the worker stands by with what it holds, and has missed nothing that was sent to it', async () => {
    await session.join(JOIN);
    let held: { step: number } | null = null;
    session.standBy(() => ({ withoutRunFolder: false, arithmetic: 'a', held }));
    sessions.send(null, { generation: 5, form: formOf(0) });
    await session.formation();
    held = { step: 1 };
    sessions.send(null, { generation: 5, commit: { step: 1 } });
    await sessions.close(1_000);
    expect(await session.next('commit')).toMatchObject({ step: 1 });
    const coordinator = await comesBack();
    await expect.poll(() => told.map(({ type }) => type), { timeout: 10_000 }).toContain('standby');
    expect(told[0]).toMatchObject({ type: 'joined', id: 'a', newest: 5 });
    expect(told.find(({ type }) => type === 'standby')).toMatchObject({ standby: { held: { step: 1 } } });
    expect(session.regrouped.aborted).toBe(false);
    // It does not use a number again that this worker knows.
    coordinator.send(null, { generation: 5, form: formOf(0) });
    coordinator.send(null, { generation: 6, form: formOf(1) });
    await expect.poll(() => session.regrouped.aborted).toBe(true);
    expect(await session.formation()).toMatchObject({ rank: 1 });
    expect(session.present).toBe(true);
    expect(said.at(-1)).toBe('the coordinator is back; this worker has joined it with what it holds');
  });

  test('comes back at another address, because the former one is taken: the run folder says so', async () => {
    await session.join(JOIN);
    await sessions.close(1_000);
    await expect.poll(() => session.present).toBe(false);
    await comesBack(WELCOME, true);
    await expect.poll(() => session.present, { timeout: 30_000 }).toBe(true);
  });

  test.each([
    ['configuration', { configJson: '{"seed":2}' }],
    ['sample plan', { planJson: '[1]' }],
    ['number of workers', { workers: 2 }],
  ])('comes back with another %s: it is of another run', async (what, change) => {
    await session.join(JOIN);
    await sessions.close(1_000);
    const ends = expect(session.over).rejects.toMatchObject({
      code: 'ERR_STATE_MISMATCH',
      message: expect.stringContaining(`has come back with another ${what} than the run of this worker`),
    });
    await comesBack({ ...WELCOME, ...change });
    await ends;
  });

  test('a worker that is asked to leave meanwhile ends at once', async () => {
    await session.join(JOIN);
    await sessions.close(1_000);
    await expect.poll(() => session.present).toBe(false);
    const ends = expect(session.over).rejects.toMatchObject({ exitCode: 143 });
    session.leave(143);
    await ends;
  });
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
  sessions.send(null, { generation: 2, form: formOf(1) });
  sessions.send(null, { generation: 1, form: formOf(0) });
  sessions.send(null, { generation: 2, start: { step: 0 } });
  expect(await session.formation()).toMatchObject({ rank: 1 });
  await expect(session.next('sync')).rejects.toThrow('The coordinator sent start where sync was expected');
});

test('the next generation is told at once, and comes after what was sent before it', async () => {
  await session.join(JOIN);
  sessions.send(null, { generation: 1, form: formOf(0) });
  expect(await session.formation()).toMatchObject({ rank: 0 });
  expect(session.generation).toBe(1);
  const { regrouped } = session;
  sessions.send(null, { generation: 1, commit: { step: 1 } });
  sessions.send(null, { generation: 2, form: formOf(1) });
  await expect.poll(() => regrouped.aborted).toBe(true);
  // The step is applied, and what it gives is still of the first generation.
  expect(await session.next('commit')).toMatchObject({ step: 1 });
  expect(session.generation).toBe(1);
  await expect(session.next('commit')).rejects.toThrow('the next generation forms');
  expect(await session.formation()).toMatchObject({ rank: 1 });
  expect(session.generation).toBe(2);
  expect(session.regrouped.aborted).toBe(false);
});

test('a generation that forms without this worker ends its own, after what was sent before it', async () => {
  await session.join(JOIN);
  const waiting = { reason: '' };
  sessions.send(null, { generation: 1, form: formOf(0) });
  await session.formation();
  sessions.send(null, { generation: 1, commit: { step: 4 } });
  sessions.send(null, { generation: 2, form: formOf(0) });
  sessions.send(null, { generation: 3, waiting });
  sessions.send(null, { drain: {} });
  await expect.poll(() => session.draining).toBe(true);
  expect(session.regrouped.aborted).toBe(true);
  expect(await session.next('commit')).toMatchObject({ step: 4 });
  await expect(session.next('commit')).rejects.toBeInstanceOf(Regrouped);
  // One that came late does not.
  const next = session.formation();
  sessions.send(null, { generation: 4, form: formOf(1) });
  expect(await next).toMatchObject({ rank: 1 });
  sessions.send(null, { generation: 3, waiting });
  sessions.send(null, { generation: 4, start: { step: 4 } });
  expect(await session.next('start')).toMatchObject({ step: 4 });
  expect(session.regrouped.aborted).toBe(false);
});

test('of several generations that have formed meanwhile, the last counts', async () => {
  await session.join(JOIN);
  sessions.send(null, { generation: 1, form: formOf(0) });
  sessions.send(null, { generation: 1, sync: {} });
  sessions.send(null, { generation: 2, form: formOf(1) });
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
