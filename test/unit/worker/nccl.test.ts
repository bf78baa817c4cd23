import { describe, expect, test, vi } from 'vitest';
import type { Engine } from '../../../src/native/contract.js';
import type { Form } from '../../../src/rpc/proto.js';
import {
  connectDevices,
  connectionProblem,
  connectsDevices,
  offerDevice,
} from '../../../src/worker/collective/nccl.js';

const form = (ranks: number): Form => ({
  rank: 0,
  members: Array.from({ length: ranks }, (_, rank) => ({
    rank,
    workerId: `${rank}`,
    dataAddress: '',
    sharedMemory: '',
    firstSlot: 3 * rank,
    endSlot: 3 * rank + 3,
  })),
});

/** Of the engine only what is asked for; anything else throws. */
function engine(parts: Partial<Engine>): Engine {
  return parts as Engine;
}

const A = 'GPU-a/NCCL 2.30.7/00ff';
const B = 'GPU-b/NCCL 2.30.7/';

describe('what workers tell of their devices', () => {
  test('their slots, by rank, go with it; and nothing is asked where nobody would use it', async () => {
    const asked = engine({ offerDevice: async (rank, bounds) => `${rank}: ${bounds.join()}` });
    expect(await offerDevice({ device: 'cuda', exchange: 'auto' }, asked, form(2))).toBe('0: 0,3,3,6');
    for (const [device, exchange, ranks] of [
      ['cpu', 'auto', 2],
      ['cuda', 'grpc', 2],
      ['cuda', 'nccl', 1],
    ] as const) {
      expect(await offerDevice({ device, exchange }, engine({}), form(ranks))).toBe('');
    }
  });

  test('why there is nothing to offer', async () => {
    const asked = engine({ offerDevice: () => Promise.reject(new Error('NCCL is off: no library')) });
    expect(await offerDevice({ device: 'cuda', exchange: 'nccl' }, asked, form(2))).toBe(
      'NCCL is off: no library',
    );
  });
});

describe('whether devices are connected', () => {
  test.each([
    [[A, B], null],
    [[A, B, 'GPU-a/NCCL 2.30.7/'], 'ranks 0 and 2 share GPU-a'],
    [[A, 'GPU-b/NCCL 2.28.3/'], 'rank 0 has NCCL 2.30.7, rank 1 has NCCL 2.28.3'],
    [[A, 'NCCL is off: no library'], 'rank 1: NCCL is off: no library'],
  ])('%j', (offers, problem) => {
    expect(connectionProblem(offers)).toBe(problem);
    let told = '';
    const tell = (note: string) => {
      told = note;
    };
    expect(connectsDevices({ device: 'cuda', exchange: 'auto' }, offers, tell)).toBe(problem === null);
    expect(told).toContain(problem ?? '');
    const insist = () => connectsDevices({ device: 'cuda', exchange: 'nccl' }, offers, tell);
    if (problem === null) expect(insist()).toBe(true);
    else expect(insist).toThrow(`exchange: nccl cannot connect the GPUs. ${problem}`);
    expect(connectsDevices({ device: 'cuda', exchange: 'grpc' }, offers, tell)).toBe(false);
    expect(connectsDevices({ device: 'cpu', exchange: 'auto' }, offers, tell)).toBe(false);
  });

  test('a lone worker has nobody to be connected to', () => {
    expect(connectsDevices({ device: 'cuda', exchange: 'nccl' }, [''], () => {})).toBe(false);
  });
});

describe('connecting', () => {
  test('goes by what rank 0 offered', async () => {
    const connected: string[] = [];
    const asked = engine({ connectDevices: async (leader) => void connected.push(leader) });
    await connectDevices(asked, [A, B]);
    expect(connected).toEqual([A]);
  });

  test('that takes too long is given up, with what to look at', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      let giveUp = () => {};
      const connect = new Promise<void>((_, reject) => {
        giveUp = () => reject(new Error('closed'));
      });
      const asked = engine({ connectDevices: () => connect, abandonDevices: () => giveUp() });
      const wait = connectDevices(asked, [A, B]);
      const outcome = expect(wait).rejects.toThrow('The GPUs were not connected within 120 s');
      await vi.advanceTimersByTimeAsync(121_000);
      await outcome;
      await expect(connect).rejects.toThrow('closed');
    } finally {
      vi.useRealTimers();
    }
  });
});
