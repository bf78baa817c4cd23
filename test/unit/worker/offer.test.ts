/** What a worker offers the coordinator: who gets it, and when it has been got. */
import { afterEach, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { connectStreams } from '../../../src/rpc/grpc-client.js';
import { Peer } from '../../../src/rpc/proto.js';
import type { Certified } from '../../../src/security/identity.js';
import { PeerServer } from '../../../src/worker/collective/grpc.js';
import { StateOffers } from '../../../src/worker/offer.js';
import { type TestRun, testRun } from '../../support/members.js';

const STEP = 4;
const PIECES = [Float32Array.of(1, 2), Float32Array.of(3), Float32Array.of(4, 5, 6)];
const { path, requestSerialize } = Peer.service.Pull;
const REQUEST = requestSerialize({ step: STEP, kind: 'OFFERED' });

let run: TestRun;
beforeAll(async () => {
  run = await testRun();
});

let server: PeerServer;
let address: string;
let own: Certified;
beforeEach(async () => {
  server = new PeerServer(() => {});
  own = await run.worker('w');
  const roles = ['worker', 'coordinator'] as const;
  address = `127.0.0.1:${await server.listen({ listen: '127.0.0.1:0', own, roles, enrolments: null })}`;
});
afterEach(() => server.close());

/** What comes to a process with this identity, until the call is over; rejects if it ends with an error. */
async function pull(by: Certified): Promise<number[]> {
  const link = { address, proof: { own: by, expected: own.identity } };
  const client = await connectStreams(link, path, 60_000);
  const came: Float32Array[] = [];
  try {
    await new Promise<void>((resolve, reject) => {
      client.pull(REQUEST, {
        open: (bytes) => {
          came.push(new Float32Array(bytes / 4));
          return new Uint8Array(came.at(-1)!.buffer);
        },
        close: () => true,
        ended: (error) => (error === null ? resolve() : reject(error)),
      });
    });
  } finally {
    client.close();
  }
  return came.flatMap((piece) => [...piece]);
}

test('only the coordinator gets it, and the request of another worker leaves it where it is', async () => {
  let told = () => {};
  const isTold = new Promise<void>((resolve) => {
    told = resolve;
  });
  const offered = server.offers.offer(STEP, PIECES, told);
  await isTold;
  await expect(pull(await run.worker('v'))).rejects.toThrow('offered to the coordinator alone');
  expect(await pull(run.coordinator)).toEqual([1, 2, 3, 4, 5, 6]);
  await offered;
});

test('an offer is told again where the coordinator may have forgotten it, which may decline it', async () => {
  const told: number[] = [];
  const offered = server.offers.offer(STEP, PIECES, (number) => told.push(number));
  server.offers.remind();
  server.offers.decline(told[0]!);
  expect(await offered).toBe(false);
  server.offers.remind();
  expect(told).toEqual([told[0], told[0]]);
});

test.each([
  [2, 60, '1 min'],
  [600, 600, '10 min'],
])('with %i s of patience, a coordinator may take %i s before it begins', async (patience, seconds, text) => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const offered = new StateOffers().offer(STEP, PIECES, () => {}, patience);
  const outcome = offered.then(String, ({ message }: Error) => message);
  await vi.advanceTimersByTimeAsync(1000 * seconds - 1);
  expect(await Promise.race([outcome, null])).toBe(null);
  await vi.advanceTimersByTimeAsync(1);
  expect(await outcome).toContain(`was not asked for by the coordinator within ${text}`);
});

test('an answer that comes twice does not decline the next offer of the same step', async () => {
  const told: number[] = [];
  const tell = (number: number) => told.push(number);
  const first = server.offers.offer(STEP, PIECES, tell);
  server.offers.decline(told[0]!);
  await first;
  const second = server.offers.offer(STEP, PIECES, tell);
  server.offers.decline(told[0]!);
  expect(await pull(run.coordinator)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(await second).toBe(true);
});

test('what the coordinator has begun to get is neither told again nor declined', async () => {
  const told: number[] = [];
  function* pieces() {
    server.offers.remind();
    server.offers.decline(told[0]!);
    yield* PIECES;
  }
  const pulls: Promise<unknown>[] = [];
  const isWanted = await server.offers.offer(STEP, pieces(), (number) => {
    told.push(number);
    pulls.push(expect(pull(run.coordinator)).resolves.toEqual([1, 2, 3, 4, 5, 6]));
  });
  await Promise.all(pulls);
  expect([isWanted, told.length]).toEqual([true, 1]);
});

test('a transfer that breaks off is no success, and the state may be offered once more', async () => {
  function* broken() {
    yield PIECES[0]!;
    server.disconnect();
    yield* PIECES.slice(1);
  }
  const pulls: Promise<unknown>[] = [];
  const offered = server.offers.offer(STEP, broken(), () => {
    pulls.push(expect(pull(run.coordinator)).rejects.toThrow());
  });
  await expect(offered).rejects.toMatchObject({
    code: 'ERR_CHECKPOINT_WRITE',
    message: 'The state after step 4 did not reach the coordinator: the transfer broke off',
  });
  await Promise.all(pulls);
  const again = server.offers.offer(STEP, PIECES, () => {
    pulls.push(expect(pull(run.coordinator)).resolves.toEqual([1, 2, 3, 4, 5, 6]));
  });
  await again;
  await Promise.all(pulls);
});
