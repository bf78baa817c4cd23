/** What NCCL cannot connect, which the launcher knows before there are workers. */
import { OrchestratorError } from '../../errors.js';

/** "ranks 0 and 1 share GPU 0", which NCCL refuses; null if each rank has its own. */
export function sharedGpu(gpus: readonly string[]): string | null {
  const twin = gpus.findIndex((gpu, rank) => gpus.indexOf(gpu) !== rank);
  return twin < 0 ? null : `ranks ${gpus.indexOf(gpus[twin]!)} and ${twin} share ${gpus[twin]}`;
}

export function cannotConnect(problem: string): OrchestratorError {
  return new OrchestratorError(
    'ERR_CUDA',
    `exchange: nccl cannot connect the GPUs. ${problem}`,
    'exchange: auto uses gRPC when GPUs cannot be connected',
  );
}
