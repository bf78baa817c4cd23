import { once } from 'node:events';
import { type ClientHttp2Session, connect, createServer, performServerHandshake } from 'node:http2';
import { type AddressInfo, createServer as createRelay, connect as dial, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, type ClientReadableStream, Server, ServerCredentials } from '@grpc/grpc-js';
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { native } from '../../../src/native/load.js';
import { channelTarget } from '../../../src/rpc/address.js';
import { connectStreams, type PulledCall } from '../../../src/rpc/grpc-client.js';
import { type ServedCall, StreamServer } from '../../../src/rpc/grpc-server.js';
import { type Link, LinkCredentials } from '../../../src/rpc/links.js';
import { Listener } from '../../../src/rpc/listener.js';
import { watchConnection } from '../../../src/rpc/watch-connection.js';
import { type TestRun, testRun } from '../../support/members.js';

const PATH = '/test.Bulk/Pull';
const onRefused = () => {};
/** A test must not depend on the machine's speed. */
const PATIENCE = { timeout: 15_000 };
const identity = (bytes: Buffer) => bytes;
const method = {
  path: PATH,
  requestStream: false as const,
  responseStream: true as const,
  requestSerialize: identity,
  requestDeserialize: identity,
  responseSerialize: identity,
  responseDeserialize: identity,
};

const closers: (() => void)[] = [];
let run: TestRun;
let proof: Link['proof'];
beforeAll(async () => {
  run = await testRun();
  const server = await run.worker('server');
  proof = { own: await run.worker('client'), expected: server.identity };
  listenOnNetwork = async (listener) => {
    const port = await listener.listen({
      listen: '127.0.0.1:0',
      own: server,
      roles: ['worker'],
      enrolments: null,
    });
    return { address: `127.0.0.1:${port}`, proof };
  };
});
/** How the tests listen, and then reach the server. */
type Listen = (listener: Pick<Listener, 'listen' | 'listenLocally'>) => Promise<Link>;
const listenLocally: Listen = async (listener) => ({ address: await listener.listenLocally(), proof: null });
let listenOnNetwork: Listen;
let listen: Listen = listenLocally;
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

function message(size: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: size }, (_, i) => (i * 31 + size) % 251));
}

/** Messages around every boundary: of frames, of socket reads, of the window. */
const SIZES = [1, 0, 5, 16_383, 16_384, 16_385, 65_536, 1_048_576, 9_000_000, 3];

/** A message as it is sent, after its checksum. */
function sent(bytes: Buffer): Buffer {
  const checksum = Buffer.alloc(8);
  checksum.writeBigUInt64LE(native().checksum(bytes));
  return Buffer.concat([checksum, bytes]);
}

async function serve(onCall: (request: Buffer, call: ServedCall) => void): Promise<Link> {
  const server = new StreamServer({ path: PATH, serve: onCall, onRefused });
  closers.push(() => server.close());
  return await listen(server);
}

async function sendAll(call: ServedCall): Promise<void> {
  for (const size of SIZES) await call.write(message(size));
  call.end();
}

interface Collected {
  messages: Buffer[];
  error: Error | null;
}

async function collect(link: Link, request: string, path = PATH, onMessage?: (call: PulledCall) => boolean) {
  const client = await connectStreams(link, path, 60_000);
  closers.push(() => client.close());
  return await new Promise<Collected>((resolve) => {
    const messages: Buffer[] = [];
    const call: PulledCall = client.pull(Buffer.from(request), {
      open: (bytes) => {
        const target = Buffer.alloc(bytes);
        messages.push(target);
        return target;
      },
      close: () => onMessage?.(call) ?? true,
      ended: (error) => resolve({ messages, error }),
    });
  });
}

const expected = SIZES.map((size) => message(size).toString('base64'));
const text = (messages: Buffer[]) => messages.map((bytes) => bytes.toString('base64'));

describe.each([
  ['within a machine', () => listenLocally],
  ['over TLS', () => listenOnNetwork],
])('bulk gRPC %s', (_, how) => {
  beforeAll(() => {
    listen = how();
  });

  test('its client understands its server', async () => {
    let received = '';
    const link = await serve((request, call) => {
      received = request.toString();
      void sendAll(call);
    });
    const { messages, error } = await collect(link, 'all of it');
    expect(error).toBe(null);
    expect(received).toBe('all of it');
    expect(text(messages)).toEqual(expected);
  });

  test('a grpc-js client understands its server, statuses included', async () => {
    const link = await serve((request, call) => {
      if (request.toString() === 'no') call.end(7, 'not für you');
      else void sendAll(call);
    });
    const client = new Client(channelTarget(link.address), new LinkCredentials(link.proof, () => {}), {
      'grpc.max_receive_message_length': -1,
    });
    closers.push(() => client.close());
    const read = (request: string, path = PATH) => {
      const call: ClientReadableStream<Buffer> = client.makeServerStreamRequest(
        path,
        identity,
        identity,
        Buffer.from(request),
      );
      return new Promise<{ messages: Buffer[]; status: { code: number; details: string } }>((resolve) => {
        const messages: Buffer[] = [];
        call.on('data', (bytes: Buffer) => messages.push(bytes));
        call.on('error', () => {});
        call.on('status', (status) => resolve({ messages, status }));
      });
    };
    const all = await read('yes');
    expect(all.status.code).toBe(0);
    expect(text(all.messages)).toEqual(text(SIZES.map((size) => sent(message(size)))));
    expect((await read('no')).status).toMatchObject({ code: 7, details: 'not für you' });
    expect((await read('yes', '/test.Bulk/Other')).status).toMatchObject({ code: 12 });
  });

  test('its client understands a grpc-js server, statuses included', async () => {
    const server = new Server();
    server.addService(
      { Pull: method },
      {
        Pull: (call: Parameters<import('@grpc/grpc-js').handleServerStreamingCall<Buffer, Buffer>>[0]) => {
          if (call.request.toString() === 'no') {
            call.emit('error', { code: 7, details: 'not für you' });
            return;
          }
          const wanted = call.request.toString();
          const last = sent(message(8));
          if (wanted === 'flipped') last[11]! ^= 4;
          const all = wanted === 'short' ? [Buffer.alloc(7)] : SIZES.map((size) => sent(message(size)));
          for (const bytes of [...all, last]) call.write(bytes);
          call.end();
        },
      },
    );
    const { injectConnection } = server.createConnectionInjector(ServerCredentials.createInsecure());
    const listener = new Listener({ admit: injectConnection, onRefused });
    closers.push(() => {
      void listener.close();
      server.forceShutdown();
    });
    const link = await listen(listener);
    const { messages, error } = await collect(link, 'yes');
    expect(error).toBe(null);
    expect(text(messages)).toEqual([...expected, ...text([message(8)])]);
    expect((await collect(link, 'no')).error?.message).toBe('not für you');
    expect((await collect(link, 'flipped')).error?.message).toBe(
      'the checksum of a message of 8 bytes is wrong: bits were flipped on the way',
    );
    expect((await collect(link, 'short')).error?.message).toBe('a message without a checksum');
  });

  test('a paused call holds the sender back and goes on where it was', async () => {
    let sent = 0;
    const link = await serve(async (_, call) => {
      for (; sent < 40; sent++) await call.write(message(1_048_576));
      call.end();
    });
    let paused = false;
    const { messages, error } = await collect(link, '', PATH, (call) => {
      if (paused) return true;
      paused = true;
      setTimeout(() => {
        expect(sent).toBeLessThan(30);
        call.resume();
      }, 300);
      return false;
    });
    expect(error).toBe(null);
    expect(messages).toHaveLength(40);
  });

  test('a connection has at most eight calls at once; the others wait', async () => {
    const open: ServedCall[] = [];
    const link = await serve((_, call) => void open.push(call));
    const client = await connectStreams(link, PATH, 60_000);
    closers.push(() => client.close());
    const ended: (Error | null)[] = [];
    const receiver = {
      open: Buffer.alloc,
      close: () => true,
      ended: (error: Error | null) => ended.push(error),
    };
    for (let i = 0; i < 20; i++) client.pull(Buffer.alloc(0), receiver);
    await expect.poll(() => open.length, PATIENCE).toBe(8);
    while (ended.length < 20) {
      expect(open.length).toBeLessThanOrEqual(8);
      for (const call of open.splice(0)) call.end();
      await sleep(1);
    }
    expect(ended).toEqual(Array(20).fill(null));
  });

  test.each([
    ['%zz', '%zz'],
    ['f%C3%BCr', 'für'],
  ])('a status with the text %s is the error "%s"', async (sent, shown) => {
    const admit = (socket: Duplex) =>
      performServerHandshake(socket).on('stream', (stream) =>
        stream.respond({ ':status': 200, 'grpc-status': '9', 'grpc-message': sent }, { endStream: true }),
      );
    const listener = new Listener({ admit, onRefused });
    closers.push(() => listener.close());
    expect((await collect(await listen(listener), '')).error?.message).toBe(shown);
  });

  test('a cancelled call writes nothing more to its receiver', async () => {
    const link = await serve((_, call) => void sendAll(call));
    let opened = 0;
    const client = await connectStreams(link, PATH, 60_000);
    closers.push(() => client.close());
    const receiver = {
      open: (bytes: number) => {
        opened++;
        return Buffer.alloc(bytes);
      },
      close: () => {
        call.cancel();
        return true;
      },
      ended: () => expect.unreachable(),
    };
    const call: PulledCall = client.pull(Buffer.alloc(0), receiver);
    await expect.poll(() => opened, PATIENCE).toBe(1);
    expect((await collect(link, '')).messages).toHaveLength(SIZES.length);
    expect(opened).toBe(1);
  });

  test('refusals of the receiver, lost connections and oversized requests are errors', async () => {
    const link = await serve((_, call) => void sendAll(call));
    const refusing = await connectStreams(link, PATH, 60_000);
    closers.push(() => refusing.close());
    const refused = await new Promise<Error | null>((resolve) =>
      refusing.pull(Buffer.alloc(0), {
        open: () => {
          throw new Error('nothing was expected');
        },
        close: () => true,
        ended: resolve,
      }),
    );
    expect(refused?.message).toBe('nothing was expected');

    const dying = new StreamServer({
      path: PATH,
      serve: (_, call) => void call.write(message(10)).then(() => dying.close()),
      onRefused,
    });
    expect((await collect(await listen(dying), '')).error).not.toBe(null);

    expect((await collect(link, 'x'.repeat(5_000))).error?.message).toContain('more than 4096 bytes');
    const nobody = { address: '127.0.0.1:1', proof };
    await expect(connectStreams(nobody, PATH, 60_000)).rejects.toThrow('ECONNREFUSED');
  });
});

test('a client takes nobody but the worker that it expects, and does not wait for another', async () => {
  listen = listenOnNetwork;
  const link = await serve((_, call) => call.end());
  const expected = { ...proof!.expected, id: 'another' };
  await expect(connectStreams({ ...link, proof: { ...proof!, expected } }, PATH, 60_000)).rejects.toThrow(
    /worker\/server, not orchestrator:\/\/\w+\/worker\/another$/,
  );
  const strange = await testRun();
  const stranger = { own: await strange.worker('client'), expected: proof!.expected };
  await expect(connectStreams({ ...link, proof: stranger }, PATH, 60_000)).rejects.toThrow('certificate');
});

/** Forwards connections, whose ends these are: that of the client, and that of the server. */
async function relayTo(target: number): Promise<{ port: number; sockets: Socket[] }> {
  const sockets: Socket[] = [];
  const relay = createRelay((near) => {
    const far = dial(target, '127.0.0.1');
    sockets.push(near, far);
    for (const end of [near, far]) end.on('error', () => {});
    near.pipe(far).pipe(near);
  });
  await once(relay.listen(0, '127.0.0.1'), 'listening');
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    relay.close();
  });
  return { port: (relay.address() as AddressInfo).port, sockets };
}

test('a connection that the network has lost without a word ends, and one that answers does not', async () => {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  closers.push(() => server.close());
  const { port, sockets } = await relayTo((server.address() as AddressInfo).port);
  const session: ClientHttp2Session = connect(`http://127.0.0.1:${port}`);
  closers.push(() => session.destroy());
  await once(session, 'remoteSettings');
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  closers.push(() => vi.useRealTimers());
  watchConnection(session, { pings: 3, everyMs: 20 });
  for (let turn = 0; turn < 10; turn++) {
    vi.advanceTimersByTime(20);
    // Answers come in the order of the questions.
    await new Promise((resolve) => session.ping(resolve));
  }
  expect(session.destroyed).toBe(false);
  const [near] = sockets;
  near!.unpipe();
  near!.pause();
  const error = once(session, 'error');
  vi.advanceTimersByTime(60);
  expect(session.destroyed).toBe(false);
  vi.advanceTimersByTime(20);
  expect(await error).toMatchObject([{ message: 'it has not answered for 0.06 s' }]);
});

test('a call ends whose client was lost by the network without a word', async () => {
  listen = listenOnNetwork;
  const calls: ServedCall[] = [];
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  closers.push(() => vi.useRealTimers());
  const link = await serve((_, call) => void calls.push(call));
  const { port, sockets } = await relayTo(Number(link.address.split(':')[1]));
  void collect({ address: `127.0.0.1:${port}`, proof }, '');
  await vi.waitFor(() => expect(calls).toHaveLength(1), PATIENCE);
  const [near, far] = sockets;
  for (const end of [near!, far!]) end.unpipe();
  near!.pause();
  far!.resume();
  const [call] = calls;
  const sending = call!.send([message(9_000_000), message(9_000_000)]);
  vi.advanceTimersByTime(10_000);
  expect(call!.open).toBe(true);
  const closed = once(far!, 'close');
  vi.advanceTimersByTime(1_000);
  expect(await call!.over).toBe(false);
  await Promise.all([sending, closed]);
});
