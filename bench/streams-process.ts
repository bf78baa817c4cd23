/** The sender or the receiver of the bench of streams; see streams.ts. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { native } from '../src/native/load.js';
import { connectStreams } from '../src/rpc/grpc-client.js';
import { StreamServer } from '../src/rpc/grpc-server.js';
import type { Certified } from '../src/security/identity.js';
import type { Ended, Orders, Receiving, Sending } from './streams.js';

const PATH = '/bench/Pull';
const MESSAGE = 2 ** 20;
const CONNECT_MS = 30_000;

native();
const message = new Uint8Array(MESSAGE).fill(1);
const [orders] = (await once(process, 'message')) as [Orders];
if ('listen' in orders) await send(orders);
else await receive(orders);

/** Serves until it is told that everything has been received. */
async function send({ listen, own, raw }: Sending): Promise<void> {
  const address = raw ? await serveRaw(listen!) : await serveStreams(listen, own);
  const over = once(process, 'message');
  const used = processorSeconds();
  process.send!({ address });
  await over;
  process.send!({ processor: used() } satisfies Partial<Ended>);
}

async function serveStreams(listen: string | null, own: Certified | null): Promise<string> {
  const server = new StreamServer({
    path: PATH,
    serve: async (request, call) => {
      for (let left = request.readUInt32BE(0); left > 0 && call.open; left--) await call.write(message);
      call.end();
    },
    onRefused: (line) => process.stderr.write(`${line}\n`),
  });
  if (listen === null || own === null) return await server.listenLocally();
  const port = await server.listen({ listen: `${listen}:0`, own, roles: ['worker'], enrolments: null });
  return `${listen}:${port}`;
}

/** What the network carries without TLS and HTTP/2: the client asks with four bytes. */
async function serveRaw(listen: string): Promise<string> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', async (request: Buffer) => {
      for (let left = request.readUInt32BE(0); left > 0; left--) {
        if (!socket.write(message)) await once(socket, 'drain');
      }
    });
  });
  server.listen(0, listen);
  await once(server, 'listening');
  return `${listen}:${(server.address() as { port: number }).port}`;
}

async function receive({ address, proof, streams, megabytes, raw }: Receiving): Promise<void> {
  const request = Buffer.alloc(4);
  request.writeUInt32BE(megabytes);
  const link = { address, proof };
  const pulls = await Promise.all(
    Array.from({ length: streams }, () =>
      raw ? connectRaw(address) : connectStreams(link, PATH, CONNECT_MS).then(pulled),
    ),
  );
  // The windows of TCP and the compiled code grow with use.
  await Promise.all(pulls.map((pull) => pull(request)));
  const used = processorSeconds();
  const started = performance.now();
  await Promise.all(pulls.map((pull) => pull(request)));
  process.send!({
    seconds: (performance.now() - started) / 1e3,
    processor: used(),
  } satisfies Ended);
}

function pulled(client: Awaited<ReturnType<typeof connectStreams>>): (request: Buffer) => Promise<void> {
  return (request) =>
    new Promise((resolve, reject) => {
      const target = new Uint8Array(MESSAGE);
      client.pull(request, {
        open: () => target,
        close: () => true,
        ended: (error) => (error === null ? resolve() : reject(error)),
      });
    });
}

async function connectRaw(address: string): Promise<(request: Buffer) => Promise<void>> {
  const [host, port] = address.split(':') as [string, string];
  let socket: Socket | null = null;
  return async (request) => {
    socket?.destroy();
    socket = connect(Number(port), host);
    let left = request.readUInt32BE(0) * MESSAGE;
    socket.write(request);
    await new Promise<void>((resolve, reject) => {
      socket!.on('error', reject);
      socket!.on('data', (piece: Buffer) => {
        left -= piece.length;
        if (left <= 0) resolve();
      });
    });
  };
}

function processorSeconds(): () => number {
  const before = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e6;
  };
}
