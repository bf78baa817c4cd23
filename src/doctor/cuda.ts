/**
 * Checks CUDA: devices, driver and libraries. A child process asks for them, because mismatched drivers and
 * libraries may crash it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { CudaDevice } from '../native/contract.js';
import { cudaFix, describeDevice } from '../native/cuda.js';
import { addonPath } from '../native/load.js';
import { type Check, ok, warning } from './check.js';

const LIBRARY_FOLDERS = [
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/usr/lib64',
  '/usr/lib/wsl/lib',
];

const PROBE = `require(process.argv[1]).cudaDevices().then(
  (devices) => process.stdout.write(JSON.stringify({ devices })),
  (error) => process.stdout.write(JSON.stringify({ off: error.message })),
)`;
const PROBE_MS = 60_000;

/** Never fails, because `device: cpu` needs no GPU; warns about a GPU that cannot be used. */
export function checkCuda(path = addonPath()): Check {
  const found = probe(path);
  if (Array.isArray(found)) {
    const devices = found.map((device, i) => `GPU ${i}: ${describeDevice(device)}`).join('; ');
    const detail = `on: ${devices}; ${found[0]?.libraries}`;
    const problem = found.find(({ problem }) => problem !== null)?.problem ?? null;
    return problem === null ? ok('cuda', detail) : warning('cuda', detail, cudaFix(problem));
  }
  const devices = nvidiaSmi();
  const driver = LIBRARY_FOLDERS.map((folder) => `${folder}/libcuda.so.1`).find((file) => existsSync(file));
  const machine = [
    devices === null ? 'no nvidia-smi' : devices.length === 0 ? 'no device' : devices.join('; '),
    driver === undefined ? 'no libcuda.so.1' : driver,
  ];
  const detail = `${found.startsWith('CUDA is off') ? '' : 'CUDA is off: '}${found} (found: ${machine.join(', ')})`;
  return devices === null || devices.length === 0
    ? ok('cuda', detail)
    : warning('cuda', detail, cudaFix(found));
}

/** The devices, or why there are none. */
function probe(path: string): CudaDevice[] | string {
  if (!existsSync(path)) return 'the addon is not built';
  const child = spawnSync(process.execPath, ['-e', PROBE, path], { encoding: 'utf8', timeout: PROBE_MS });
  if (child.status !== 0)
    return `asking for devices ended with ${child.signal ?? `exit code ${child.status}`}`;
  const answer = JSON.parse(child.stdout) as { devices: CudaDevice[] } | { off: string };
  return 'devices' in answer ? answer.devices : answer.off;
}

/** Names, memory and driver of the devices, or null if nvidia-smi is missing or fails. */
function nvidiaSmi(): string[] | null {
  const query = ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader'];
  const result = spawnSync('nvidia-smi', query, { encoding: 'utf8', timeout: 10_000 });
  if (result.status !== 0) return null;
  return result.stdout.split('\n').filter((line) => line.trim() !== '');
}
