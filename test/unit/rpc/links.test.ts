/** How long one process tries to reach another one on a network. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { native } from '../../../src/native/load.js';
import { connectLink, Unreachable } from '../../../src/rpc/links.js';

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
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  server.kill('SIGKILL');
  vi.restoreAllMocks();
});

const reach = (signal = AbortSignal.timeout(15_000)) => connectLink({ address, proof: null }, signal);

test('where nothing comes from there, it is given up after 2 seconds', async () => {
  const started = performance.now();
  const error = await reach().catch((error) => error);
  expect(error).toBeInstanceOf(Unreachable);
  expect((error as Error).message).toBe('no answer within 2 s');
  expect(performance.now() - started).toBeGreaterThan(1_990);
});

test('what was lost on the way is sent again, and one connection is left', async () => {
  vi.spyOn(native(), 'socketPeer').mockReturnValue({ pid: 1, user: process.geteuid!() });
  const reached = reach();
  setTimeout(() => server.kill('SIGCONT'), 700);
  const socket = await reached;
  sockets.push(socket);
  expect(socket.readyState).toBe('open');
});

test('somebody else may end it', async () => {
  await expect(reach(AbortSignal.abort(new Error('over')))).rejects.toThrow('over');
  const over = new AbortController();
  const reached = reach(over.signal);
  setTimeout(() => over.abort(new Error('over')), 100);
  await expect(reached).rejects.toThrow('over');
});
