/** GPUs: which there are, which one a worker uses, and what to do where none can be used. */
import { OrchestratorError } from '../errors.js';
import { bytes } from '../text/quantities.js';
import type { CudaDevice, NativeAddon } from './contract.js';

/** A worker's GPU, with its `ordinal` among the `count` GPUs that the process sees. */
export type Gpu = ReturnType<typeof gpuOf>;

type CudaAddon = Pick<NativeAddon, 'cudaDevices'>;

const LIBRARIES =
  'pip install nvidia-cublas nvidia-cudnn-cu13 nvidia-nccl-cu13 (or name folders with include/ and lib/ in ORCH_CUDA_ROOTS)';

/** Remedies by pattern of the reason; the first match wins. */
const FIXES: readonly [RegExp, string][] = [
  [/ORCHESTRATOR_CUDA names/, 'unset ORCHESTRATOR_CUDA, or let it name the library'],
  [
    /liborchestrator_cuda\S* is not built/,
    `\`npm run build:cuda\`, which needs nvcc of CUDA 13 and cuBLASLt: ${LIBRARIES}`,
  ],
  [/(lib\S+\.so\S*): cannot open/, 'put the folder of that library into LD_LIBRARY_PATH'],
  [/insufficient/, 'install the NVIDIA driver, 580 or newer'],
  [
    /compute capability/,
    'build for this GPU: `npm run build:cuda` on its machine, or with ORCH_CUDA_ARCHITECTURES=all; GPUs below 8.0 cannot be used',
  ],
  [/no CUDA-capable device|There is no CUDA device/, 'see what nvidia-smi lists, and CUDA_VISIBLE_DEVICES'],
];

/** The remedy, given the reason why CUDA is off. */
export function cudaFix(reason: string): string {
  return FIXES.find(([pattern]) => pattern.test(reason))?.[1] ?? 'see that nvidia-smi lists the GPU';
}

/** "NVIDIA H200, 139.8 GiB" */
export function describeDevice({ name, memoryBytes, problem }: CudaDevice): string {
  return `${name}, ${bytes(memoryBytes)}${problem === null ? '' : ` (cannot be used: ${problem})`}`;
}

/**
 * Rank among the workers of this machine, which chooses the GPU: from torchrun (LOCAL_RANK), Slurm
 * (SLURM_LOCALID), or `launch` where several nodes are one machine (ORCHESTRATOR_GPU). It does not matter
 * where each process sees only its own GPU (CUDA_VISIBLE_DEVICES, --gpus-per-task).
 */
export function localRank(environment: NodeJS.ProcessEnv): number {
  const given = environment.ORCHESTRATOR_GPU ?? environment.LOCAL_RANK ?? environment.SLURM_LOCALID ?? '0';
  if (/^\d{1,6}$/.test(given)) return Number(given);
  throw new OrchestratorError(
    'ERR_USAGE',
    `ORCHESTRATOR_GPU, LOCAL_RANK or SLURM_LOCALID: expected a whole number, received ${given}`,
  );
}

/** The GPU of the worker with this local rank: usable GPUs are assigned round-robin. */
export function gpuOf(devices: readonly CudaDevice[], rank: number) {
  const usable = devices.flatMap((device, ordinal) =>
    device.problem === null ? [{ ...device, ordinal }] : [],
  );
  const chosen = usable[rank % usable.length];
  if (chosen !== undefined) return { ...chosen, count: devices.length };
  const found = devices.map(({ name, problem }) => `${name} has ${problem}`).join('; ');
  throw unusable(found === '' ? 'There is no CUDA device' : found);
}

/** The GPU of this process. */
export async function findGpu(addon: CudaAddon, environment = process.env): Promise<Gpu> {
  return gpuOf(await devicesOf(addon), localRank(environment));
}

/**
 * The default number of workers of a node, where `nodes` nodes are this machine: one for each usable GPU of
 * the node, and one on the CPU.
 */
export async function defaultWorkersPerNode(
  addon: CudaAddon,
  device: 'cpu' | 'cuda',
  nodes: number,
): Promise<number> {
  if (device === 'cpu') return 1;
  const devices = await addon.cudaDevices().catch(() => []);
  const usable = devices.filter(({ problem }) => problem === null).length;
  return Math.max(1, Math.floor(usable / nodes));
}

/** The GPUs of the workers that `launch` starts, by rank. */
export async function findGpus(addon: CudaAddon, workers: number): Promise<Gpu[]> {
  const devices = await devicesOf(addon);
  localRank(process.env); // The value is not used here, but an invalid one is an error.
  return Array.from({ length: workers }, (_, rank) => gpuOf(devices, rank));
}

async function devicesOf(addon: CudaAddon): Promise<CudaDevice[]> {
  return await addon.cudaDevices().catch((error: Error) => {
    throw unusable(error.message, error);
  });
}

function unusable(reason: string, cause?: Error): OrchestratorError {
  return new OrchestratorError('ERR_CUDA', `device: cuda needs a GPU. ${reason}`, {
    hint: `${cudaFix(reason)}; \`orchestrator doctor\` shows what was found`,
    cause,
  });
}
