/** Checks CUDA: devices, driver and libraries. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { CudaDevice } from '../native/contract.js';
import { cudaFix, describeDevice } from '../native/cuda.js';
import { addonPath } from '../native/load.js';
import { type Check, note, ok, probe, warning } from './check.js';

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

/** Never fails, because `device: cpu` needs no GPU; warns about a GPU that cannot be used. */
export function checkCuda(path = addonPath()): Check {
  const found = devicesOf(path);
  if (Array.isArray(found)) {
    const devices = found.map((device, i) => `GPU ${i}: ${describeDevice(device)}`).join('; ');
    const detail = `on: ${devices}; ${found[0]?.libraries}`;
    const problem = found.find(({ problem }) => problem !== null)?.problem ?? null;
    return problem === null ? ok('cuda', detail) : warning('cuda', detail, cudaFix(problem));
  }
  const reason = found.replace(/^CUDA is off: /, '');
  const devices = nvidiaSmi();
  const driver = LIBRARY_FOLDERS.map((folder) => `${folder}/libcuda.so.1`).find((file) => existsSync(file));
  const shown = devices === null ? 'no nvidia-smi' : devices.join('; ') || 'nvidia-smi lists no device';
  const machine = `${reason}; ${shown}; ${driver ?? 'no libcuda.so.1'}`;
  if (!devices?.length) return note('cuda', `no GPU, which only \`device: cuda\` needs (${machine})`);
  return warning('cuda', `there is a GPU, but it cannot be used (${machine})`, cudaFix(reason));
}

/** The devices, or why there are none. */
function devicesOf(path: string): CudaDevice[] | string {
  if (!existsSync(path)) return 'the addon is not built';
  const { status, signal, stdout } = probe(PROBE, path);
  if (status !== 0) return `asking for devices ended with ${signal ?? `exit code ${status}`}`;
  const answer = JSON.parse(stdout) as { devices: CudaDevice[] } | { off: string };
  return 'devices' in answer ? answer.devices : answer.off;
}

/** Names, memory and driver of the devices, or null if nvidia-smi is missing or fails. */
function nvidiaSmi(): string[] | null {
  const query = ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader'];
  const { status, stdout } = spawnSync('nvidia-smi', query, { encoding: 'utf8', timeout: 10_000 });
  return status === 0 ? stdout.split('\n').filter((line) => line.trim() !== '') : null;
}
