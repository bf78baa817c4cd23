import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import type { BucketInfo } from '../../../src/native/contract.js';
import { localAddress } from '../../../src/rpc/grpc-stream.js';
import { assignSlots } from '../../../src/step/assignment.js';
import { localSubtrees, sumTree } from '../../../src/step/tree.js';
import { exchangeLayout, StepExchange } from '../../../src/worker/collective/exchange.js';
import { GrpcCollective, PeerServer } from '../../../src/worker/collective/grpc.js';
import { chunksOf, sliceOf } from '../../../src/worker/collective/slices.js';

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

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

async function connectAll(slots: number, ranks: number, tokens?: string[]): Promise<GrpcCollective[]> {
  const servers = await Promise.all(
    Array.from({ length: ranks }, async () => {
      const peer = new PeerServer();
      const address = await peer.listen(localAddress());
      closers.push(() => peer.close());
      return { peer, address };
    }),
  );
  return await Promise.all(
    servers.map(async ({ peer }, rank) => {
      const collective = await GrpcCollective.connect({
        layout: exchangeLayout(rank, assignSlots(slots, ranks), BUCKETS, addInto),
        generation: 1,
        token: tokens?.[rank] ?? 'secret',
        server: peer,
        addresses: servers.map(({ address }) => address),
      });
      closers.push(() => collective.close());
      return collective;
    }),
  );
}

describe('slices', () => {
  test('cover every bucket once, in order', () => {
    for (const ranks of [1, 2, 3, 7]) {
      for (const bucket of BUCKETS) {
        let end = 0;
        for (let rank = 0; rank < ranks; rank++) {
          const slice = sliceOf(bucket, rank, ranks);
          expect(slice.offset).toBe(end);
          end += slice.length;
        }
        expect(end).toBe(bucket.length);
      }
    }
  });

  test('are cut into chunks that cover them once, in order, none longer than is asked', () => {
    for (const longest of [16, 1000, 262_144]) {
      for (const rank of [0, 1, 2]) {
        const chunks = chunksOf(BUCKETS, rank, 3, longest);
        for (const [index, bucket] of BUCKETS.entries()) {
          const slice = sliceOf(bucket, rank, 3);
          let end = slice.offset;
          for (const { offset, length } of chunks.filter((chunk) => chunk.bucket === index)) {
            expect(offset).toBe(end);
            expect(length).toBeGreaterThan(0);
            expect(length).toBeLessThanOrEqual(longest);
            end += length;
          }
          expect(end).toBe(slice.offset + slice.length);
        }
        const order = chunks.map(({ bucket }) => bucket);
        expect(order).toEqual([...order].sort((a, b) => a - b));
      }
    }
  });
});

describe('exchange over loopback', () => {
  test.each([
    [2, 2],
    [5, 2],
    [4, 3],
    [7, 4],
  ])('%i slots on %i workers: the bits of one worker, in two steps', async (slots, ranks) => {
    const collectives = await connectAll(slots, ranks);
    const ranges = assignSlots(slots, ranks);
    for (const step of [1, 2]) {
      const expected = bucketsOf(nodeSum(0, slots, step));
      const sums = await Promise.all(
        collectives.map(async (collective, rank) => {
          const local = localGradient(ranges[rank] as { lo: number; hi: number }, slots, step);
          await sleep(rank * 20); // one worker is always ahead
          collective.begin(step, () => local);
          for (let bucket = 0; bucket < BUCKETS.length; bucket++) {
            await sleep(10);
            collective.announce(bucket);
          }
          const { bytes } = await collective.finish();
          expect(bytes).toBeGreaterThan(0);
          return local.sum;
        }),
      );
      for (const sum of sums)
        for (const [bucket, values] of sum.entries())
          expect(Buffer.from(values.buffer).equals(Buffer.from(expected[bucket]!.buffer)), `${bucket}`).toBe(
            true,
          );
    }
  });

  test('a peer with another token gets nothing', async () => {
    const collectives = await connectAll(2, 2, ['secret', 'guess']);
    const waits = collectives.map((collective, rank) => {
      collective.begin(1, () => localGradient({ lo: rank, hi: rank + 1 }, 2, 1));
      for (let bucket = 0; bucket < BUCKETS.length; bucket++) collective.announce(bucket);
      return collective.finish();
    });
    await expect(waits[1]).rejects.toThrow(/exchange with rank 0 broke at step 1: .*wrong data token/);
    await expect(waits[0]).rejects.toThrow(/exchange with rank 1 broke/);
  });

  test('a peer that goes away ends the wait with its rank', async () => {
    const [first, second] = (await connectAll(2, 2)) as [GrpcCollective, GrpcCollective];
    first.begin(1, () => localGradient({ lo: 0, hi: 1 }, 2, 1));
    first.announce(0);
    const wait = first.finish();
    second.begin(1, () => localGradient({ lo: 1, hi: 2 }, 2, 1));
    setTimeout(() => {
      second.close();
      closers[1]?.(); // its server
    }, 50);
    await expect(wait).rejects.toThrow(/exchange with rank 1 broke at step 1/);
  });
});

test('a peer that was gone before the step is named, too', async () => {
  const [first, second] = (await connectAll(2, 2)) as [GrpcCollective, GrpcCollective];
  second.close();
  closers[1]?.(); // its server
  await sleep(100);
  const begin = () => first.begin(1, () => localGradient({ lo: 0, hi: 1 }, 2, 1));
  expect(begin).toThrow(/exchange with rank 1 broke at step 1/);
});

describe('a step without the network', () => {
  const layout = exchangeLayout(0, assignSlots(2, 2), BUCKETS, addInto);
  const local = () => localGradient({ lo: 0, hi: 1 }, 2, 1);

  test('a message of the wrong size is refused with rank, step and sizes', () => {
    const exchange = new StepExchange(layout, 9, local);
    expect(() => exchange.openPart(1, 12)).toThrow(/^Rank 1 sent 12 bytes at step 9, expected \d+ bytes/);
  });

  test('buckets out of order and foreign parts are refused', () => {
    const exchange = new StepExchange(layout, 1, local);
    expect(() => exchange.announce(1)).toThrow('bucket 1 was announced, but 0 was expected');
    const wrong = new StepExchange(layout, 1, () => localGradient({ lo: 0, hi: 2 }, 2, 1));
    expect(() => wrong.announce(0)).toThrow('sums over slots [0, 2), but the tree has [0, 1)');
  });
});
