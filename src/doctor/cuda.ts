/** What there is of CUDA. This build computes on CPUs only, so nothing here can fail. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { type Check, ok } from './check.js';

const LIBRARY_FOLDERS = [
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/usr/lib64',
  '/usr/lib/wsl/lib',
];

export function checkCuda(): Check {
  const devices = nvidiaSmi();
  const driver = LIBRARY_FOLDERS.map((folder) => `${folder}/libcuda.so.1`).find((path) => existsSync(path));
  const found = [
    devices === null ? 'no nvidia-smi' : devices.length === 0 ? 'no device' : devices.join('; '),
    driver === undefined ? 'no libcuda.so.1' : driver,
  ];
  return ok('cuda', `off: this build computes on CPUs only (found: ${found.join(', ')})`);
}

/** Names, memory and driver of the devices, or null where nvidia-smi is not there or fails. */
function nvidiaSmi(): string[] | null {
  const query = ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader'];
  const result = spawnSync('nvidia-smi', query, { encoding: 'utf8', timeout: 10_000 });
  if (result.status !== 0) return null;
  return result.stdout.split('\n').filter((line) => line.trim() !== '');
}
