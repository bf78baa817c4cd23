import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Gate, presentToken, TokenRefused } from '../../../src/rpc/gate.js';
import { socketAddress } from '../../../src/rpc/transport.js';

/** A test must not depend on the machine's speed. */
const PATIENCE = { timeout: 15_000 };

let gate: Gate;
let address: string;
let admitted: Socket[];
let refused: string[];
const clients: Socket[] = [];
beforeEach(async () => {
  [admitted, refused] = [[], []];
  gate = new Gate({
    token: 'secret',
    admit: (socket) => admitted.push(socket),
    onRefused: (message) => refused.push(message),
  });
  gate.expect(1);
  address = await gate.listen('127.0.0.1:0');
});
afterEach(async () => {
  vi.useRealTimers();
  const closed = gate.close();
  for (const socket of [...admitted, ...clients.splice(0)]) socket.destroy();
  await closed;
});

async function open(): Promise<Socket> {
  const socket = connect(socketAddress(address));
  clients.push(socket);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

const hello = (token: string) => `orchestrator ${createHash('sha256').update(token).digest('hex')}\n`;

test('the token opens the gate, in however many pieces it comes; bytes after the answer are left', async () => {
  const socket = await open();
  await presentToken(socket, 'secret');
  expect(admitted).toHaveLength(1);
  admitted[0]!.write('and now HTTP/2');
  await once(socket, 'readable');
  expect(String(socket.read())).toBe('and now HTTP/2');

  const slow = await open();
  for (const character of hello('secret')) slow.write(character);
  await once(slow, 'data');
  expect(admitted).toHaveLength(2);
  expect(refused).toEqual([]);
});

test('a wrong token is an error of its own', async () => {
  await expect(presentToken(await open(), 'guess')).rejects.toThrow(TokenRefused);
  await expect
    .poll(() => refused, PATIENCE)
    .toEqual([expect.stringMatching(/^a connection from 127\.0\.0\.1:\d+: wrong token$/)]);
  expect(admitted).toEqual([]);
});

test.each([
  ['a request of HTTP/1', 'GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n', 'it did not begin with the token'],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'it did not begin with the token'],
  ['the preface of TLS', Buffer.from([22, 3, 1, 2, 0, 1]), 'it did not begin with the token'],
  ['one byte', '\0', 'it did not begin with the token'],
  ['a token of another length', 'orchestrator secret\n'.padEnd(100, 'x'), 'wrong token'],
  ['the token and more at once', `${hello('secret')}PRI`, 'wrong token'],
])('%s is refused with an answer that says why', async (_, bytes, why) => {
  const socket = await open();
  const answer = text(socket);
  socket.write(bytes);
  expect(await answer).toMatch(
    /^HTTP\/1\.1 403 Forbidden\r\n[\s\S]*for processes with the token of the run\.\n$/,
  );
  expect(refused).toEqual([expect.stringContaining(why)]);
  expect(admitted).toEqual([]);
});

test('a refused connection that goes on sending ends after 64 KiB', async () => {
  const socket = await open();
  // It does not read, so the answer and the other side's end do not stop it.
  socket.pause();
  const closed = new Promise((resolve) => socket.once('close', resolve));
  const flood = () => socket.write(Buffer.alloc(8_192), () => void setImmediate(flood));
  flood();
  await closed;
  expect(socket.bytesWritten).toBeLessThan(32 * 2 ** 20); // what the system buffers
});

test('a connection that does not present the token ends in time, and says so', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const socket = await open();
  const answer = text(socket);
  socket.write('orchestrator ');
  await vi.waitFor(() => expect(vi.getTimerCount()).toBeGreaterThan(0));
  await vi.advanceTimersByTimeAsync(5_000);
  expect(await answer).toContain('403');
  expect(refused).toEqual([expect.stringContaining('no token within 5 s')]);
});

test('idle connections do not keep others out, and thousands of refusals are a few lines', async () => {
  const idle = await Promise.all(Array.from({ length: 300 }, open));
  await presentToken(await open(), 'secret');
  await expect
    .poll(() => idle.filter(({ closed }) => closed).length, PATIENCE)
    .toBeGreaterThanOrEqual(300 - 17);
  expect(refused).toHaveLength(5);
  void gate.close();
  expect(refused).toHaveLength(6);
  expect(refused[5]).toMatch(/^\d+ more, the last: a connection: more than 17 waited for the token$/);
});

test('a port in use is named', async () => {
  const second = new Gate({ token: '', admit: () => {}, onRefused: () => {} });
  await expect(second.listen(address)).rejects.toThrow(`Address ${address} is in use by another process`);
});
