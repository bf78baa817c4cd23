import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import type { BucketInfo } from '../../../src/native/contract.js';
import { socketAddress } from '../../../src/rpc/address.js';
import { connectStreams } from '../../../src/rpc/grpc-client.js';
import { localAddress } from '../../../src/rpc/local.js';
import { Peer } from '../../../src/rpc/proto.js';
import { assignSlots } from '../../../src/step/assignment.js';
import { localSubtrees, sumTree } from '../../../src/step/tree.js';
import { exchangeLayout, StepExchange } from '../../../src/worker/collective/exchange.js';
import { GrpcCollective, PeerServer } from '../../../src/worker/collective/grpc.js';
import { CHUNK_ELEMENTS, chunksOf } from '../../../src/worker/collective/slices.js';
import { testRun } from '../../support/members.js';

const LENGTH = 700_000;
/** One bucket longer than a chunk for every rank, a tiny one, and a middling one, in backward's order. */
const BUCKETS: BucketInfo[] = [
  { offset: 100_000, length: 600_000 },
  { offset: 99_968, length: 32 },
  { offset: 0, length: 99_968 },
];

function addInto(dst: Float32Array, src: Float32Array): void {
  for (let i = 0; i < dst.length; i++) dst[i] = (dst[i] as number) + (src[i] as number);
}

function slotGradient(slot: number, step: number): Float32Array {
  const data = new Float32Array(LENGTH);
  for (let i = 0; i < LENGTH; i++)
    data[i] = (((i * 2654435761 + slot * 40503 + step * 97) % 65521) - 32760) / 977;
  return data;
}

function nodeSum(lo: number, hi: number, step: number): Float32Array {
  const leaves = Array.from({ length: hi - lo }, (_, i) => ({
    lo: i,
    hi: i + 1,
    data: slotGradient(lo + i, step),
  }));
  return sumTree(leaves, hi - lo, (a, b) => {
    addInto(a, b);
    return a;
  });
}

/** As an engine shows a gradient. */
function bucketsOf(flat: Float32Array): Float32Array[] {
  return BUCKETS.map(({ offset, length }) => flat.slice(offset, offset + length));
}

function localGradient(slots: { lo: number; hi: number }, totalSlots: number, step: number) {
  const parts = localSubtrees(slots.lo, slots.hi, totalSlots).map(({ lo, hi }) => ({
    lo,
    hi,
    buckets: bucketsOf(nodeSum(lo, hi, step)),
  }));
  return { parts, sum: (parts[0] as { buckets: Float32Array[] }).buckets };
}

/** Stands for an engine that has one worker's gradients; compute() makes them those of a step. */
class Worker {
  readonly #slots: { lo: number; hi: number };
  readonly #totalSlots: number;
  local: ReturnType<typeof localGradient>;

  constructor(slots: { lo: number; hi: number }, totalSlots: number) {
    this.#slots = slots;
    this.#totalSlots = totalSlots;
    this.local = localGradient(slots, totalSlots, 1);
  }

  compute(step: number): void {
    this.local = localGradient(this.#slots, this.#totalSlots, step);
  }

  gradientParts() {
    return this.local.parts;
  }

  gradient() {
    return this.local.sum;
  }

  async reduce() {
    return { norm: this.local.sum[0]![0]!, firstNonFinite: -1, receivedBytes: 0 };
  }
}

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

interface Connected {
  worker: Worker;
  collective: GrpcCollective;
}

async function connectAll(slots: number, ranks: number): Promise<Connected[]> {
  const ranges = assignSlots(slots, ranks);
  const servers = await Promise.all(
    Array.from({ length: ranks }, async () => {
      const peer = new PeerServer(() => {});
      const address = await peer.listenLocally();
      closers.push(() => peer.close());
      return { peer, address };
    }),
  );
  return await Promise.all(
    servers.map(async ({ peer }, rank) => {
      const worker = new Worker(ranges[rank]!, slots);
      const collective = await GrpcCollective.connect({
        state: () => null,
        signal: new AbortController().signal,
        gradients: worker,
        layout: exchangeLayout(rank, ranges, BUCKETS, addInto),
        generation: 1,
        server: peer,
        links: servers.map(({ address }) => ({ address, proof: null })),
      });
      closers.push(() => collective.close());
      return { worker, collective };
    }),
  );
}

test.each([1, 2, 3, 7])(
  'the chunks of %i ranks cover every bucket once, in order, none too long',
  (ranks) => {
    const ends = BUCKETS.map(() => 0);
    for (let rank = 0; rank < ranks; rank++) {
      const chunks = chunksOf(BUCKETS, rank, ranks);
      for (const { bucket, offset, length } of chunks) {
        expect(offset).toBe(ends[bucket]);
        expect(length).toBeGreaterThan(0);
        expect(length).toBeLessThanOrEqual(CHUNK_ELEMENTS);
        ends[bucket] = offset + length;
      }
      const order = chunks.map(({ bucket }) => bucket);
      expect(order).toEqual([...order].sort((a, b) => a - b));
    }
    expect(ends).toEqual(BUCKETS.map(({ length }) => length));
  },
);

describe('exchange over loopback', () => {
  test.each([
    [2, 2],
    [5, 2],
    [4, 3],
    [7, 4],
  ])('%i slots on %i workers: the bits of one worker, in two steps', async (slots, ranks) => {
    const workers = await connectAll(slots, ranks);
    for (const step of [1, 2]) {
      const expected = bucketsOf(nodeSum(0, slots, step));
      await Promise.all(
        workers.map(async ({ worker, collective }, rank) => {
          worker.compute(step);
          await sleep(rank * 20); // one worker is always ahead
          const onBucket = collective.begin(step);
          for (let bucket = 0; bucket < BUCKETS.length; bucket++) {
            await sleep(10);
            onBucket(bucket);
          }
          const { norm, receivedBytes } = await collective.reduce();
          // What the engine finds comes after the sum is complete.
          expect(norm).toBe(expected[0]![0]);
          expect(receivedBytes).toBeGreaterThan(0);
        }),
      );
      for (const { worker } of workers)
        for (const [bucket, values] of worker.local.sum.entries())
          expect(Buffer.from(values.buffer).equals(Buffer.from(expected[bucket]!.buffer)), `${bucket}`).toBe(
            true,
          );
    }
  });

  test('a request that is no message is refused, and the worker goes on', async () => {
    const server = new PeerServer(() => {});
    closers.push(() => server.close());
    server.attach(() => Promise.resolve());
    const link = { address: await server.listenLocally(), proof: null };
    const client = await connectStreams(link, Peer.service.Pull.path, 5_000);
    closers.push(() => client.close());
    const refused = await new Promise<Error | null>((ended) => {
      const none = { open: () => new Uint8Array(0), close: () => true, ended };
      client.pull(Buffer.from([0x08]), none); // the tag of a field without its value
    });
    expect(refused?.message).toContain('index out of range');
  });

  test('a peer that goes away ends the wait with its rank', async () => {
    const [first, second] = (await connectAll(2, 2)).map(({ collective }) => collective);
    first!.begin(1)(0);
    const wait = first!.reduce();
    second!.begin(1);
    setTimeout(() => {
      second!.close();
      closers[1]?.(); // its server
    }, 50);
    await expect(wait).rejects.toThrow(/exchange with rank 1 broke at step 1/);
  });
});

test.each([
  ['a network', true],
  ['a socket within the machine', false],
])('a bit that flips on %s between workers breaks the exchange', async (_, isNetwork) => {
  const run = await testRun();
  const own = [await run.worker('a'), await run.worker('b')];
  const ranges = assignSlots(2, 2);
  let flipped = 0;
  /** Passes everything on, and flips one bit of what comes back after half a MiB. */
  const relay = async (to: string) => {
    const server = createServer((socket) => {
      const onward = connect(socketAddress(to));
      let bytes = 0;
      onward.on('data', (chunk) => {
        bytes += chunk.length;
        if (flipped === 0 && bytes > 1 << 19) {
          chunk[chunk.length >> 1]! ^= 1;
          flipped++;
        }
        socket.write(chunk);
      });
      socket.pipe(onward);
      for (const [end, other] of [
        [socket, onward],
        [onward, socket],
      ] as const)
        end.on('error', () => {}).on('close', () => other.destroy());
    });
    closers.push(() => void server.close());
    const local = localAddress();
    if (isNetwork) await once(server.listen(0, '127.0.0.1'), 'listening');
    else await once(server.listen(socketAddress(local)), 'listening');
    return isNetwork ? `127.0.0.1:${(server.address() as AddressInfo).port}` : local;
  };
  const servers = own.map(() => new PeerServer(() => {}));
  closers.push(() => servers.forEach((server) => void server.close()));
  const listen = async (server: PeerServer, rank: number) => {
    if (!isNetwork) return await server.listenLocally();
    const reachable = {
      listen: '127.0.0.1:0',
      own: own[rank]!,
      roles: ['worker' as const],
      enrolments: null,
    };
    return `127.0.0.1:${await server.listen(reachable)}`;
  };
  const addresses = await Promise.all(
    servers.map(async (server, rank) => {
      const address = await listen(server, rank);
      return rank === 0 ? await relay(address) : address;
    }),
  );
  const [first, second] = await Promise.all(
    servers.map(async (server, rank) => {
      const collective = await GrpcCollective.connect({
        state: () => null,
        signal: new AbortController().signal,
        gradients: new Worker(ranges[rank]!, 2),
        layout: exchangeLayout(rank, ranges, BUCKETS, addInto),
        generation: 1,
        server,
        links: own.map(({ identity }, peer) => ({
          address: addresses[peer]!,
          proof: isNetwork ? { own: own[rank]!, expected: identity } : null,
        })),
      });
      closers.push(() => collective.close());
      return collective;
    }),
  );
  const reduced = [first!, second!].map(async (collective) => {
    const onBucket = collective.begin(1);
    for (const bucket of BUCKETS.keys()) onBucket(bucket);
    try {
      await collective.reduce();
      return 'a sum';
    } catch (error) {
      return (error as Error).message;
    } finally {
      collective.close();
    }
  });
  const [ofFirst, ofSecond] = await Promise.all(reduced);
  expect(flipped).toBe(1);
  expect(ofFirst).toMatch(/The exchange with rank 1 broke at step 1/);
  expect(ofSecond).toMatch(/The exchange with rank 0 broke at step 1/);
  if (!isNetwork) expect(ofSecond).toMatch(/bits were flipped on the way$/);
});

test('a sum that is not finite is kept until every peer has read it', async () => {
  // This worker's half is larger than what HTTP/2 and sockets hold, so a peer that pauses holds it up.
  const buckets: BucketInfo[] = [{ offset: 0, length: 16_000_000 }];
  const ranges = assignSlots(2, 2);
  let summed = false;
  const gradients = (rank: number) => {
    const parts = [{ ...ranges[rank]!, buckets: [new Float32Array(16_000_000)] }];
    const reduce = async () => {
      summed = true;
      return { norm: Number.NaN, firstNonFinite: 0, receivedBytes: 0 };
    };
    return { gradientParts: () => parts, gradient: () => parts[0]!.buckets, reduce };
  };
  const layouts = [0, 1].map((rank) => exchangeLayout(rank, ranges, buckets, addInto));
  const servers = [0, 1].map(() => new PeerServer(() => {}));
  closers.push(() => servers.forEach((server) => void server.close()));
  const addresses = await Promise.all(servers.map((server) => server.listenLocally()));

  // The peer, by hand: it serves its streams, and stops reading the result after one message.
  const peer = new StepExchange(layouts[1]!, 1, gradients(1));
  servers[1]!.attach(async ({ kind, rank }, call) => {
    for await (const chunk of kind === 'PART' ? peer.partsFor(rank) : peer.results())
      await call.write(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    call.end();
  });
  const collective = await GrpcCollective.connect({
    state: () => null,
    signal: new AbortController().signal,
    gradients: gradients(0),
    layout: layouts[0]!,
    generation: 1,
    server: servers[0]!,
    links: addresses.map((address) => ({ address, proof: null })),
  });
  closers.push(() => collective.close());
  const { path, requestSerialize } = Peer.service.Pull;
  let reading = false;
  const pull = async (kind: 'PART' | 'RESULT', close: () => boolean) => {
    // A connection each, because a paused stream may take up a connection's window.
    const client = await connectStreams({ address: addresses[0]!, proof: null }, path, 5_000);
    closers.push(() => client.close());
    const incoming = kind === 'PART' ? peer.receiveParts(0) : peer.receiveResults(0);
    const receiver = {
      open: incoming.open,
      close: () => {
        incoming.close();
        return close();
      },
      ended: () => {},
    };
    return client.pull(requestSerialize({ generation: 1, step: 1, kind, rank: 1 }), receiver);
  };
  collective.begin(1)(0);
  peer.announce(0);
  await pull('PART', () => true);
  const result = await pull('RESULT', () => reading);
  let found = false;
  const reduced = collective.reduce().then(() => {
    found = true;
  });
  await expect.poll(() => summed, { timeout: 15_000 }).toBe(true);
  await sleep(100);
  expect(found).toBe(false);
  reading = true;
  result.resume();
  await reduced;
  await peer.finished();
});

test('a peer that was gone before the step is named, too', async () => {
  const [first, second] = (await connectAll(2, 2)).map(({ collective }) => collective);
  second!.close();
  closers[1]?.(); // its server
  const begin = () => {
    try {
      first!.begin(1);
      return 'begun';
    } catch (error) {
      return (error as Error).message;
    }
  };
  await expect.poll(begin).toMatch(/exchange with rank 1 broke at step 1/);
});

describe('a step without the network', () => {
  const layout = exchangeLayout(0, assignSlots(2, 2), BUCKETS, addInto);
  const exchange = (step: number, slots = { lo: 0, hi: 1 }) =>
    new StepExchange(layout, step, new Worker(slots, 2));

  test('a message of the wrong size is refused with rank, step and sizes', () => {
    expect(() => exchange(9).receiveParts(1).open(12)).toThrow(
      /^Rank 1 sent 12 bytes at step 9, expected \d+ bytes/,
    );
  });

  test('buckets out of order and parts of other slots fail the exchange', async () => {
    const early = exchange(1);
    early.announce(1);
    await expect(early.finished()).rejects.toThrow('bucket 1 was announced, but 0 was expected');
    const wrong = exchange(1, { lo: 0, hi: 2 });
    wrong.announce(0);
    await expect(wrong.finished()).rejects.toThrow('sums over slots [0, 2), but the tree has [0, 1)');
  });
});
