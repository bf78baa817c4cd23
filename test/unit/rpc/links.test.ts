/** How long one process tries to reach another one on a network. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, Socket } from 'node:net';
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { native } from '../../../src/native/load.js';
import { connectLink, Unreachable } from '../../../src/rpc/links.js';

// The real one, whose calls are counted.
vi.mock('node:net', async (original) => {
  const actual = await original<typeof import('node:net')>();
  return { ...actual, connect: vi.fn(actual.connect) };
});

/** Prints its port. Where it is stopped, the kernel completes two connections, and drops what asks for others. */
const SERVER = `
  require('net').createServer(() => {}).listen({ port: 0, host: '127.0.0.1', backlog: 1 }, function () {
    console.log(this.address().port);
  });`;
const FILLING = 2;

let server: ChildProcess;
let address: string;
let sockets: Socket[];
beforeEach(async () => {
  sockets = [];
  server = spawn(process.execPath, ['-e', SERVER], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [port] = (await once(server.stdout!, 'data')) as [Buffer];
  address = `127.0.0.1:${Number(port)}`;
  server.kill('SIGSTOP');
  for (let i = 0; i < FILLING; i++) {
    const socket = connect(Number(port), '127.0.0.1').on('error', () => {});
    sockets.push(socket);
    await once(socket, 'connect');
  }
  vi.mocked(connect).mockClear();
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  server.kill('SIGKILL');
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const reach = (signal = AbortSignal.timeout(15_000)) => connectLink({ address, proof: null }, signal);

/** The time of attempts is the test's; sockets are those of the system. */
const pretendTime = () => vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });

test('where nothing comes from there, it is given up after 4 attempts, in 2 seconds', async () => {
  const started = performance.now();
  const error = await reach().catch((error) => error);
  expect(error).toBeInstanceOf(Unreachable);
  expect((error as Error).message).toBe('no answer within 2 s');
  expect(performance.now() - started).toBeGreaterThan(1_990);
  expect(connect).toHaveBeenCalledTimes(4);
});

test('what was lost on the way is sent again, and one connection is left', async () => {
  vi.spyOn(native(), 'socketPeer').mockReturnValue({ pid: 1, user: process.geteuid!() });
  server.kill('SIGCONT');
  pretendTime();
  const lost = new Socket();
  vi.mocked(connect).mockReturnValueOnce(lost);
  const reached = reach();
  expect(connect).toHaveBeenCalledTimes(1);
  vi.advanceTimersByTime(500);
  const socket = await reached;
  sockets.push(socket);
  expect(connect).toHaveBeenCalledTimes(2);
  expect(socket.readyState).toBe('open');
  expect(lost.destroyed).toBe(true);
  expect(vi.getTimerCount()).toBe(0);
});

test('an answer that came while this process was paused counts', async () => {
  vi.spyOn(native(), 'socketPeer').mockReturnValue({ pid: 1, user: process.geteuid!() });
  const listener = createServer(() => {}).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  onTestFinished(() => void listener.close());
  const { port } = listener.address() as AddressInfo;
  const wake = setTimeout;
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
  const reached = new Promise<Socket>((resolve) => {
    // As after a pause: from among the timers, before any socket is looked at.
    wake(() => {
      const link = { address: `127.0.0.1:${port}`, proof: null };
      resolve(connectLink(link, new AbortController().signal));
      process.nextTick(() => vi.advanceTimersByTime(10_000));
    }, 0);
  });
  sockets.push(await reached);
});

test('a malformed address is refused, and nothing is left of the attempt', async () => {
  pretendTime();
  const signal = new AbortController().signal;
  for (const address of ['nowhere', '127.0.0.1:70000', '']) {
    await expect(connectLink({ address, proof: null }, signal)).rejects.toThrow('host:port');
  }
  vi.mocked(connect).mockImplementationOnce(() => {
    throw new TypeError('no such option');
  });
  await expect(connectLink({ address: '127.0.0.1:1', proof: null }, signal)).rejects.toThrow('no such');
  expect(vi.getTimerCount()).toBe(0);
});

test('somebody else may end it', async () => {
  await expect(reach(AbortSignal.abort(new Error('over')))).rejects.toThrow('over');
  const over = new AbortController();
  const reached = reach(over.signal);
  setTimeout(() => over.abort(new Error('over')), 100);
  await expect(reached).rejects.toThrow('over');
});
