import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { PassThrough } from 'node:stream';
import { afterEach, expect, test } from 'vitest';
import { probeLinks } from '../../../src/launch/link-probe.js';
import { Authority } from '../../../src/security/authority.js';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** A host's part, in this process. */
class Probe {
  readonly ended: Promise<void>;
  readonly #input = new PassThrough();
  readonly #lines: AsyncIterator<string>;

  constructor(options: Parameters<typeof probeLinks>[2] = {}) {
    const output = new PassThrough();
    this.ended = probeLinks(this.#input, output, options);
    this.#lines = createInterface({ input: output })[Symbol.asyncIterator]();
    closing.push(() => this.#input.end());
  }

  /** @returns where it listens. */
  async join(authority: Authority, id: string): Promise<string> {
    const { publicKey } = await this.#next();
    const certificate = await authority.issue({ role: 'worker', id }, Buffer.from(publicKey!, 'base64'));
    const { run, stored } = authority;
    const listen = '127.0.0.1';
    const common = { run, id, certificate, authority: stored.certificate };
    return (await this.ask({ ...common, listen, towards: listen, port: 0 })).address!;
  }

  ask(line: object) {
    this.#input.write(`${JSON.stringify(line)}\n`);
    return this.#next();
  }

  async #next(): Promise<Record<string, string>> {
    return JSON.parse((await this.#lines.next()).value);
  }
}

async function portOf(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** Passes connections on, and resets each when so many bytes have come from the other side. */
async function resetting(address: string, bytes: number): Promise<string> {
  const server = createServer((socket: Socket) => {
    const beyond = connect(Number(address.split(':')[1]), '127.0.0.1');
    let passed = 0;
    socket.on('error', () => {}).pipe(beyond);
    beyond
      .on('error', () => {})
      .on('data', (data) => {
        passed += data.length;
        if (passed < bytes) socket.write(data);
        else {
          beyond.destroy();
          socket.resetAndDestroy();
        }
      });
  });
  return `127.0.0.1:${await portOf(server)}`;
}

test('a connection that is reset while it is measured is a problem of this one alone', async () => {
  const authority = await Authority.create();
  const [one, other] = [new Probe(), new Probe()];
  await one.join(authority, 'one');
  const address = await other.join(authority, 'other');
  const reset = await one.ask({ id: 'other', address: await resetting(address, 300_000) });
  expect(reset).toEqual({ problem: expect.stringMatching(/ECONNRESET|the connection ended/) });
  // The same process measures the next one.
  const measured = await one.ask({ id: 'other', address });
  expect(Number(measured.bytesPerSecond)).toBeGreaterThan(0);
});

test('a host that does not answer is told as such', async () => {
  const silent = await portOf(createServer((socket) => closing.push(() => socket.destroy())));
  const probe = new Probe({ connectMs: 100 });
  await probe.join(await Authority.create(), 'one');
  const { problem } = await probe.ask({ id: 'other', address: `127.0.0.1:${silent}` });
  expect(problem).toBe('no answer within 0.1 s');
});

test('its process ends by itself when nobody has said anything for long', async () => {
  const probe = new Probe({ idleMs: 200 });
  await probe.ended;
});
