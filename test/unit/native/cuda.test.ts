/** Which GPU is a worker's, and what is said where there is none. */
import { expect, test } from 'vitest';
import type { CudaDevice } from '../../../src/native/contract.js';
import {
  cudaFix,
  defaultWorkersPerNode,
  describeDevice,
  findGpu,
  gpuOf,
  localRank,
} from '../../../src/native/cuda.js';

const h200: CudaDevice = {
  name: 'NVIDIA H200',
  memoryBytes: 139.8 * 2 ** 30,
  libraries: 'CUDA 13.0',
  problem: null,
};
const old: CudaDevice = { ...h200, name: 'NVIDIA T4', problem: 'compute capability 7.5' };

test('the local rank is that of launch and torchrun, else of Slurm, else 0', () => {
  expect(localRank({ ORCHESTRATOR_GPU: '5', LOCAL_RANK: '3', SLURM_LOCALID: '1' })).toBe(5);
  expect(localRank({ LOCAL_RANK: '3', SLURM_LOCALID: '1' })).toBe(3);
  expect(localRank({ SLURM_LOCALID: '1' })).toBe(1);
  expect(localRank({})).toBe(0);
  expect(() => localRank({ LOCAL_RANK: '-1' })).toThrow(/expected a whole number, received -1/);
});

test('GPUs that can be used are dealt out in turn', () => {
  const devices = [h200, old, h200];
  const ordinals = [0, 1, 2, 3].map((rank) => gpuOf(devices, rank).ordinal);
  expect(ordinals).toEqual([0, 2, 0, 2]);
  expect(gpuOf(devices, 1)).toMatchObject({ name: 'NVIDIA H200', count: 3 });
  // One GPU of its own for each process: the rank does not matter.
  expect(gpuOf([h200], 7).ordinal).toBe(0);
});

test('where none can be used: why, and what to do', async () => {
  expect(() => gpuOf([old], 0)).toThrow('device: cuda needs a GPU. NVIDIA T4 has compute capability 7.5');
  expect(() => gpuOf([], 0)).toThrow('There is no CUDA device');
  const off = Object.assign(new Error('CUDA is off: liborchestrator_cuda.so is not built'), {
    code: 'ERR_CUDA',
  });
  const failure = await findGpu({ cudaDevices: () => Promise.reject(off) }, {}).catch((error) => error);
  expect(failure).toMatchObject({ code: 'ERR_CUDA', message: expect.stringContaining(off.message) });
  expect(failure.hint).toMatch(/^`npm run build:cuda`, which needs nvcc .*; `orchestrator doctor`/);
  expect(cudaFix('libcublasLt.so.13: cannot open shared object file')).toMatch(/LD_LIBRARY_PATH/);
  expect(cudaFix('driver version is insufficient')).toMatch(/driver, 580/);
});

test('a device is named with its memory, and its problem', () => {
  expect(describeDevice(h200)).toBe('NVIDIA H200, 140 GiB');
  expect(describeDevice(old)).toContain('(cannot be used: compute capability 7.5)');
});

test('where nothing says how many workers a node has: one for each GPU, and one on the CPU', async () => {
  const count = (devices: CudaDevice[], device: 'cpu' | 'cuda', nodes: number) =>
    defaultWorkersPerNode({ cudaDevices: async () => devices }, device, nodes);
  expect(await count([h200, old, h200, h200], 'cuda', 1)).toBe(3);
  expect(await count([h200, h200, h200, h200], 'cuda', 2)).toBe(2);
  expect(await count([h200], 'cuda', 2)).toBe(1);
  expect(await count([], 'cuda', 1)).toBe(1);
  expect(await count([h200, h200], 'cpu', 1)).toBe(1);
});
