import { describe, expect, test, vi } from 'vitest';
import type { Engine } from '../../../src/native/contract.js';
import type { DeviceRendezvous, Formation } from '../../../src/rpc/proto.js';
import {
  canConnectDevices,
  connectDevices,
  connectionProblem,
  deviceRendezvous,
} from '../../../src/worker/collective/nccl.js';

const form = (ranks: number): Formation => ({
  rank: 0,
  members: Array.from({ length: ranks }, (_, rank) => ({
    id: `w${rank}`,
    dataAddress: '',
    localAddress: '',
    machine: '',
    sharedMemory: '',
    firstSlot: 3 * rank,
    endSlot: 3 * rank + 3,
  })),
});

/** An engine with these methods alone. */
function engine(parts: Partial<Engine>): Engine {
  return parts as Engine;
}

const device = (gpu: string, library = 'NCCL 2.30.7', uniqueId = ''): DeviceRendezvous => ({
  gpu,
  library,
  uniqueId,
  problem: '',
});
const A = device('GPU-a', 'NCCL 2.30.7', '00ff');
const B = device('GPU-b');
const OFF = { gpu: '', library: '', uniqueId: '', problem: 'NCCL is off: no library' };

describe('what a worker tells of its device', () => {
  test('its GPU, its library, and the unique id of rank 0; the engine gets the slots of all ranks', async () => {
    let asked = '';
    const offering = engine({
      rendezvous: async (rank, bounds) => {
        asked = `${rank}: ${bounds.join()}`;
        return 'GPU-a/NCCL 2.30.7/00ff';
      },
    });
    expect(await deviceRendezvous(offering, form(2))).toEqual(A);
    expect(asked).toBe('0: 0,3,3,6');
  });

  test('why it cannot be connected', async () => {
    const refusing = engine({ rendezvous: () => Promise.reject(new Error(OFF.problem)) });
    expect(await deviceRendezvous(refusing, form(2))).toEqual(OFF);
  });
});

describe('whether devices are connected', () => {
  test.each([
    [[A, B], null],
    [[A, B, device('GPU-a')], 'ranks 0 and 2 share GPU-a'],
    [[A, device('GPU-b', 'NCCL 2.28.3')], 'rank 0 has NCCL 2.30.7, rank 1 has NCCL 2.28.3'],
    [[A, OFF], 'rank 1: NCCL is off: no library'],
  ])('%j', (devices, problem) => {
    expect(connectionProblem(devices)).toBe(problem);
    let told = '';
    const tell = (note: string) => {
      told = note;
    };
    expect(canConnectDevices('auto', devices, tell)).toBe(problem === null);
    expect(told).toContain(problem ?? '');
    const insist = () => canConnectDevices('nccl', devices, tell);
    if (problem === null) expect(insist()).toBe(true);
    else expect(insist).toThrow(`exchange: nccl cannot connect the GPUs. ${problem}`);
  });
});

describe('connecting', () => {
  test('goes by the unique id of rank 0', async () => {
    const connected: string[] = [];
    const asked = engine({ connectDevices: async (leader) => void connected.push(leader) });
    await connectDevices(asked, [A, B]);
    expect(connected).toEqual(['00ff']);
  });

  test('that takes too long is given up, with what to look at', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      let giveUp = () => {};
      const connect = new Promise<void>((_, reject) => {
        giveUp = () => reject(new Error('closed'));
      });
      const asked = engine({ connectDevices: () => connect, abortDevices: () => giveUp() });
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
