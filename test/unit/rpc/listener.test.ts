import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { native } from '../../../src/native/load.js';
import { socketAddress } from '../../../src/rpc/address.js';
import { connectLink } from '../../../src/rpc/links.js';
import { Listener } from '../../../src/rpc/listener.js';
import { strangerAt } from '../../../src/rpc/local.js';
import { Authority } from '../../../src/security/authority.js';
import { ENROLMENT_PROTOCOL, type Enrolments } from '../../../src/security/enrolment.js';
import { type Certified, type Identity, tlsOptions, uriOf } from '../../../src/security/identity.js';
import { newKey } from '../../../src/security/keys.js';
import { type TestRun, testRun } from '../../support/members.js';

/** A test must not depend on the machine's speed. */
const PATIENCE = { timeout: 15_000 };

let run: TestRun;
let worker: Certified;
beforeAll(async () => {
  run = await testRun();
  worker = await run.worker('a');
});

let listener: Listener;
let admitted: (Identity | null)[];
let refused: string[];
const sockets: Socket[] = [];
beforeEach(() => {
  const [peers, notes]: [typeof admitted, string[]] = [[], []];
  [admitted, refused] = [peers, notes];
  listener = new Listener({
    admit: (socket, peer) => {
      sockets.push(socket);
      peers.push(peer);
    },
    onRefused: (message) => notes.push(message),
  });
  listener.expect(1);
});
afterEach(async () => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  const closed = listener.close();
  for (const socket of sockets.splice(0)) socket.destroy();
  await closed;
});

const onNetwork = () =>
  listener.listen({ listen: '127.0.0.1:0', own: run.coordinator, roles: ['worker'], enrolments: null });

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

const closed = (socket: Socket) => expect.poll(() => socket.closed, PATIENCE).toBe(true);

describe('within the machine', () => {
  test('a process of the same user is admitted, and so is its listener', async () => {
    const address = await listener.listenLocally();
    sockets.push(await connectLink({ address, proof: null }, AbortSignal.timeout(15_000)));
    await expect.poll(() => admitted, PATIENCE).toEqual([null]);
    expect(refused).toEqual([]);
  });

  test.each([
    [{ pid: 1, user: process.geteuid!() + 1 }, /a process of another user \(\d+\)/],
    [{ pid: 0, user: process.geteuid!() }, /a process in another PID namespace/],
  ])('%o is refused by both sides', async (peer, why) => {
    const address = await listener.listenLocally();
    const asked = vi.spyOn(native(), 'socketPeer').mockReturnValue(peer);
    const socket = connect(socketAddress(address));
    sockets.push(socket);
    socket.on('error', () => {});
    await once(socket, 'connect');
    expect(strangerAt(socket)).toMatch(why);
    await closed(socket);
    expect(refused).toEqual([expect.stringMatching(why)]);
    await expect(connectLink({ address, proof: null }, AbortSignal.timeout(15_000))).rejects.toThrow(why);
    expect(asked).toHaveBeenCalled();
    expect(admitted).toEqual([]);
  });
});

describe('on a network', () => {
  /** A client of TLS; resolves when the server has ended the connection, or has admitted it. */
  async function present(port: number, options: object): Promise<TLSSocket> {
    const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options });
    sockets.push(socket);
    socket.on('error', () => {}).resume();
    const before = admitted.length;
    await expect.poll(() => socket.closed || admitted.length > before, PATIENCE).toBe(true);
    return socket;
  }
  const ALPNProtocols = ['h2'];

  test('a worker of the run is admitted by its certificate', async () => {
    const port = await onNetwork();
    const link = { address: `127.0.0.1:${port}`, proof: { own: worker, expected: run.coordinator.identity } };
    sockets.push(await connectLink(link, AbortSignal.timeout(15_000)));
    await expect.poll(() => admitted, PATIENCE).toEqual([worker.identity]);
    expect(refused).toEqual([]);
  });

  test.each<[string, () => object | Promise<object>, string]>([
    ['no certificate', () => ({ ALPNProtocols }), 'it has no certificate of this run'],
    [
      "another run's certificate",
      async () => ({ ALPNProtocols, ...tlsOptions(await (await testRun()).worker('a')) }),
      'it has no certificate of this run',
    ],
    [
      'the wrong role',
      () => ({ ALPNProtocols, ...tlsOptions(run.coordinator) }),
      'its certificate is for a coordinator',
    ],
    [
      'a request to enrol where nobody does',
      () => ({ ALPNProtocols: ['orchestrator-enrolment'] }),
      'nobody enrols here',
    ],
    ['another protocol', () => ({ ALPNProtocols: ['http/1.1'] }), 'no TLS of this run'],
    ['an old version of TLS', () => ({ ALPNProtocols, maxVersion: 'TLSv1.2' }), 'no TLS of this run'],
  ])('%s is refused', async (_, options, why) => {
    const socket = await present(await onNetwork(), await options());
    await closed(socket);
    await expect.poll(() => refused, PATIENCE).toEqual([expect.stringContaining(why)]);
    expect(refused[0]).toMatch(/^a connection from 127\.0\.0\.1:\d+: /);
    expect(admitted).toEqual([]);
  });

  test('a session that is resumed vouches for nobody', async () => {
    // Who enrols is connected without a certificate, and gets a ticket of its session.
    const enrolments = { answer: () => new Promise(() => {}) } as unknown as Enrolments;
    const port = await listener.listen({
      listen: '127.0.0.1:0',
      own: run.coordinator,
      roles: ['worker'],
      enrolments,
    });
    const enrolling = { port, host: '127.0.0.1', ALPNProtocols: [ENROLMENT_PROTOCOL] };
    const first = connectTls({ ...enrolling, rejectUnauthorized: false });
    sockets.push(first);
    first.on('error', () => {}).resume();
    const [session] = (await once(first, 'session')) as [Buffer];
    const options = { ALPNProtocols, session, rejectUnauthorized: false };
    const second = connectTls({ port, host: '127.0.0.1', ...options });
    sockets.push(second);
    second.on('error', () => {}).resume();
    await once(second, 'secureConnect');
    expect(second.isSessionReused()).toBe(true);
    await closed(second);
    expect(admitted).toEqual([]);
  });

  test('a worker does not take an impostor, whatever the environment says', async () => {
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
    const warned = vi.spyOn(process, 'emitWarning').mockReturnValue();
    const impostor = await testRun();
    const port = await listener.listen({
      listen: '127.0.0.1:0',
      own: impostor.coordinator,
      roles: ['worker'],
      enrolments: null,
    });
    const link = { address: `127.0.0.1:${port}`, proof: { own: worker, expected: run.coordinator.identity } };
    await expect(connectLink(link, AbortSignal.timeout(15_000))).rejects.toThrow(/self-signed certificate/);
    warned.mockRestore();
    vi.unstubAllEnvs();
  });

  test('a worker cannot issue certificates: who has one of them is not admitted', async () => {
    const port = await onNetwork();
    const forger = await Authority.open({ key: worker.key, certificate: worker.certificate });
    const { privateKey, publicKey } = newKey();
    const identity = { role: 'worker', id: 'forged' } as const;
    const certificate = (await forger.issue(identity, publicKey)).trimEnd();
    const socket = await present(port, {
      ...tlsOptions({ identity: worker.identity, key: privateKey, certificate, authority: worker.authority }),
      cert: `${certificate}\n${worker.certificate}${worker.authority}`,
      ALPNProtocols,
    });
    await closed(socket);
    expect(admitted).toEqual([]);
  });

  test("a certificate of another authority does not become this run's by the chain that is sent along", async () => {
    const port = await onNetwork();
    const impostor = await (await testRun()).worker('a');
    const options = {
      ...tlsOptions(impostor),
      cert: `${impostor.certificate}${run.authority.stored.certificate}`,
    };
    await closed(await present(port, { ALPNProtocols, ...options }));
    expect(admitted).toEqual([]);
  });

  test.each([
    ['a request of HTTP/1', 'GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n'],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['a greeting of an older version', `orchestrator ${'0'.repeat(64)}\n`],
    ['zeros', Buffer.alloc(100_000)],
    ['a record of TLS that is too long', Buffer.from([22, 3, 1, 0xff, 0xff, ...Array(1_000).fill(0)])],
  ])('%s is refused', async (_, bytes) => {
    const socket = await open(await onNetwork());
    socket.resume();
    socket.end(bytes);
    await closed(socket);
    await expect.poll(() => refused, PATIENCE).toEqual([expect.stringContaining('no TLS of this run')]);
    expect(admitted).toEqual([]);
  });

  test('a connection without a handshake ends in time, and says so', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const port = await onNetwork();
    const socket = await open(port);
    socket.write(Buffer.from([22, 3, 1]));
    await vi.waitFor(() => expect(vi.getTimerCount()).toBeGreaterThan(0));
    await vi.advanceTimersByTimeAsync(5_000);
    vi.useRealTimers();
    await closed(socket);
    expect(refused).toEqual([expect.stringContaining('no handshake of TLS within 5 s')]);
  });

  test('idle connections do not keep others out, and thousands of refusals are a few lines', async () => {
    const port = await onNetwork();
    const idle = await Promise.all(Array.from({ length: 300 }, () => open(port)));
    const link = { address: `127.0.0.1:${port}`, proof: { own: worker, expected: run.coordinator.identity } };
    sockets.push(await connectLink(link, AbortSignal.timeout(15_000)));
    await expect.poll(() => admitted, PATIENCE).toHaveLength(1);
    await expect
      .poll(() => idle.filter(({ closed }) => closed).length, PATIENCE)
      .toBeGreaterThanOrEqual(300 - 17);
    expect(refused).toHaveLength(5);
    expect(refused[0]).toBe('a connection: more than 17 waited for the handshake of TLS');
    void listener.close();
    expect(refused).toHaveLength(6);
    expect(refused[5]).toMatch(/^\d+ more, the last: /);
  });

  test('a port in use is named', async () => {
    const address = `127.0.0.1:${await onNetwork()}`;
    const second = new Listener({ admit: () => {}, onRefused: () => {} });
    await expect(
      second.listen({ listen: address, own: worker, roles: [], enrolments: null }),
    ).rejects.toThrow(`Address ${address} is in use by another process`);
  });
});

test('an identity is the same after it was a URI', async () => {
  const id = 'host, "a"/%?é';
  const port = await onNetwork();
  const link = {
    address: `127.0.0.1:${port}`,
    proof: { own: await run.worker(id), expected: run.coordinator.identity },
  };
  sockets.push(await connectLink(link, AbortSignal.timeout(15_000)));
  await expect.poll(() => admitted[0]?.id, PATIENCE).toBe(id);
  expect(uriOf(admitted[0]!)).toMatch(/^orchestrator:\/\/[0-9a-f]{16}\/worker\/host%2C%20/);
});
