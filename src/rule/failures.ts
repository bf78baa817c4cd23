/** Whether an error of one worker ends that worker alone, as its death does, or the whole run. */
import type { ErrorCode } from '../errors.js';

/**
 * `worker`: the error is of one machine or process, and the others do not meet it. `run`: every worker that computes
 * would meet it, because it follows from the configuration, the data, the weights, or the program itself.
 */
export const ENDS: Readonly<Record<ErrorCode, 'worker' | 'run'>> = {
  ERR_CONFIG: 'run',
  ERR_USAGE: 'worker',
  ERR_SYSTEM: 'worker',
  ERR_NATIVE_MISSING: 'worker',
  ERR_HANDLE: 'run',
  ERR_ISA: 'worker',
  ERR_CUDA: 'worker',
  ERR_OUT_OF_MEMORY: 'worker',
  ERR_TENSOR_SHAPE: 'run',
  ERR_FILE_OPEN: 'run',
  ERR_FILE_TRUNCATED: 'run',
  ERR_FILE_MAP: 'worker',
  ERR_FILE_WRITE: 'worker',
  ERR_DATA_FORMAT: 'run',
  ERR_DATA_COLUMN: 'run',
  ERR_DATA_TYPE: 'run',
  ERR_DATA_SHAPE: 'run',
  ERR_DATA_NULL: 'run',
  ERR_DATA_COMPRESSED: 'run',
  ERR_DATA_EMPTY: 'run',
  ERR_DATA_ROW: 'run',
  ERR_DATA_SPEC: 'run',
  ERR_DATA_HASH: 'run',
  ERR_DATA_NON_FINITE: 'run',
  ERR_PLAN: 'run',
  ERR_SAFETENSORS: 'run',
  ERR_CHECKPOINT_DAMAGED: 'run',
  ERR_CHECKPOINT_MISSING: 'run',
  ERR_CHECKPOINT_MISMATCH: 'run',
  ERR_CHECKPOINT_WRITE: 'worker',
  ERR_MODEL_TENSORS: 'run',
  ERR_PROMPT: 'run',
  ERR_PORT: 'worker',
  ERR_RUN_DIR: 'worker',
  ERR_HOST: 'worker',
  ERR_RUN_LOCKED: 'worker',
  ERR_NOT_RUNNING: 'worker',
  ERR_STOP: 'worker',
  ERR_TOKEN: 'worker',
  ERR_PROTOCOL: 'worker',
  ERR_JOIN_TIMEOUT: 'worker',
  ERR_WORKER_LOST: 'worker',
  ERR_COORDINATOR_LOST: 'worker',
  ERR_STATE_MISMATCH: 'run',
  ERR_NON_FINITE: 'run',
  ERR_PROGRESS: 'worker',
  ERR_SHARED_MEMORY: 'worker',
  ERR_EXCHANGE: 'worker',
  ERR_MODEL_SPEC: 'run',
  ERR_NO_EMA: 'run',
  ERR_EMA_UNTRAINED: 'run',
  ERR_NATIVE_ARGUMENT: 'run',
  ERR_EMULATED: 'run',
  ERR_STUDY: 'run',
  ERR_INTERNAL: 'run',
};

/** What the run knows of a worker that has failed, and of the others that stay. */
interface Standing {
  /** The first step has begun. */
  begun: boolean;
  /** The worker was ready in a generation. */
  holds: boolean;
  /** Nobody but itself has started it: others do without it, whatever it is. */
  ownAccord: boolean;
  /** How many others stay, and whether one of them was ready in a generation. */
  others: number;
  othersHold: boolean;
}

/** Whether the run ends with an error of a worker. */
export function endsRun(code: ErrorCode, { begun, holds, ownAccord, others, othersHold }: Standing): boolean {
  // Before the first step the user is told at once what is wrong, not after the launcher has tried again.
  if (others === 0 && !begun) return true;
  // The others train with what this worker could not use.
  if ((othersHold || (ownAccord && others > 0)) && !holds) return false;
  return ENDS[code] === 'run';
}
