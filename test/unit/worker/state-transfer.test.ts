import { afterEach, describe, expect, test } from 'vitest';
import type { TensorInfo } from '../../../src/native/contract.js';
import { exchangeLayout } from '../../../src/worker/collective/exchange.js';
import { GrpcCollective, PeerServer } from '../../../src/worker/collective/grpc.js';
import { CHUNK_ELEMENTS } from '../../../src/worker/collective/slices.js';
import { receiveState, type StateMemory, stateShare } from '../../../src/worker/state-transfer.js';

const LENGTHS = [5, CHUNK_ELEMENTS + 3, 16, 1];
const ARRAYS = ['master', 'ema', 'm', 'v'];
const POSITIONS = 40;

/** The state of an engine: every element has a value of its own, or all are 0. */
class Memory implements StateMemory {
  readonly arrays = new Map<string, Float32Array>();
  readonly positions: Float32Array;
  changed = 0;

  constructor(isEmpty: boolean) {
    let value = 0;
    const made = (length: number) => Float32Array.from({ length }, () => (isEmpty ? 0 : ++value));
    this.positions = made(POSITIONS);
    for (const array of ARRAYS) {
      for (const [i, length] of LENGTHS.entries()) this.arrays.set(`${array}/t${i}`, made(length));
    }
  }

  layout() {
    const tensors = LENGTHS.map((length, i) => ({ name: `t${i}`, length }) as TensorInfo);
    return { tensors, moments: ['m', 'v'] } as ReturnType<StateMemory['layout']>;
  }

  async state(array: string, tensor: string) {
    return this.arrays.get(`${array}/${tensor}`)!;
  }

  posEmbed() {
    return this.positions;
  }

  async parametersChanged() {
    this.changed++;
  }
}

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** Collectives of workers that hold the state after `held`, by rank; null: none. */
async function connected(held: readonly (number | null)[], memories: readonly Memory[]) {
  const slots = held.map((_, rank) => ({ lo: rank, hi: rank + 1 }));
  const servers = await Promise.all(
    held.map(async () => {
      const server = new PeerServer(() => {});
      closers.push(() => server.close());
      return { server, address: await server.listenLocally() };
    }),
  );
  const gradients = { gradientParts: () => [], gradient: () => [], reduce: () => Promise.reject() };
  const over = new AbortController();
  closers.push(() => over.abort(new Error('over')));
  return await Promise.all(
    servers.map(({ server }, rank) =>
      GrpcCollective.connect({
        gradients,
        layout: exchangeLayout(rank, slots, [], () => {}),
        generation: 1,
        server,
        links: servers.map(({ address }) => ({ address, proof: null })),
        state: (step, share, shares) =>
          held[rank] === step ? stateShare(memories[rank]!, true, share, shares) : null,
        signal: over.signal,
      }),
    ),
  );
}

test.each([1, 2, 5, 30])('%i shares are all of the state, each element once', async (shares) => {
  const memory = new Memory(false);
  const all = await Promise.all(
    Array.from({ length: shares }, (_, share) => stateShare(memory, true, share, shares)),
  );
  const elements = all.flat().flatMap((piece) => [...piece]);
  const total = POSITIONS + ARRAYS.length * LENGTHS.reduce((sum, length) => sum + length, 0);
  expect(elements).toEqual(Array.from({ length: total }, (_, i) => i + 1));
});

describe('over loopback', () => {
  test('a worker without a state gets it from all that hold it', async () => {
    const memories = [new Memory(false), new Memory(true), new Memory(false)];
    const collectives = await connected([7, null, 7], memories);
    const receiver = memories[1]!;
    await receiveState(receiver, true, { step: 7, ranks: [0, 2] }, collectives[1]!.pullShare);
    expect(receiver.arrays).toEqual(memories[0]!.arrays);
    expect(receiver.positions).toEqual(memories[0]!.positions);
    expect(receiver.changed).toBe(1);
  });

  test('who holds another step says so', async () => {
    const memories = [new Memory(false), new Memory(true)];
    const collectives = await connected([6, null], memories);
    const received = receiveState(memories[1]!, true, { step: 7, ranks: [0] }, collectives[1]!.pullShare);
    await expect(received).rejects.toMatchObject({
      code: 'ERR_EXCHANGE',
      message: 'The state from rank 0 did not come: the state after step 7 is not here',
    });
    expect(memories[1]!.changed).toBe(0);
  });

  test('a holder that is lost is told', async () => {
    const memories = [new Memory(false), new Memory(true)];
    const collectives = await connected([7, null], memories);
    const pull = collectives[1]!.pullShare;
    // The server of rank 0.
    closers[0]!();
    const received = receiveState(memories[1]!, true, { step: 7, ranks: [0] }, pull);
    await expect(received).rejects.toMatchObject({ code: 'ERR_EXCHANGE' });
  });
});
