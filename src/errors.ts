/**
 * The errors that users meet: a stable code, one sentence for what went wrong, and a hint what to do about
 * it. `docs/reference/errors.md` is generated from this table.
 */
export const ERRORS = {
  ERR_CONFIG: 'The configuration is invalid.',
  ERR_USAGE: 'The command line is invalid.',
  ERR_SYSTEM: 'The operating system refused an operation.',
  ERR_NATIVE_MISSING: 'The native addon is not built, or cannot be loaded on this machine.',
  ERR_HANDLE: 'A native object was used after it was closed, or in place of another kind.',
  ERR_ISA: 'The requested instruction set is not available on this processor.',
  ERR_CUDA: 'A GPU cannot be used, or failed.',
  ERR_OUT_OF_MEMORY: 'The memory of the machine or of its GPU is not sufficient.',
  ERR_TENSOR_SHAPE: 'A tensor does not have the shape that the model needs.',
  ERR_FILE_OPEN: 'A file is missing, not readable, or not a regular file.',
  ERR_FILE_TRUNCATED: 'A file is shorter than its contents say, or its size changed while it was in use.',
  ERR_FILE_MAP: 'A file cannot be mapped into memory.',
  ERR_FILE_WRITE: 'A file or folder cannot be written.',
  ERR_DATA_FORMAT: 'A data file or its metadata is malformed.',
  ERR_DATA_COLUMN: 'The data set lacks a required column.',
  ERR_DATA_TYPE: 'A column does not have the required element type.',
  ERR_DATA_SHAPE: 'A column does not have the required shape.',
  ERR_DATA_NULL: 'A column holds nulls.',
  ERR_DATA_COMPRESSED: 'An Arrow file is compressed, so it cannot be mapped.',
  ERR_DATA_EMPTY: 'The data set has no rows, or fewer than the run needs.',
  ERR_DATA_ROW: 'A row number is outside the data set.',
  ERR_DATA_SPEC: 'The positions of a column in its files contradict each other or the file sizes.',
  ERR_DATA_HASH: 'A data file does not match the recorded hash or size.',
  ERR_DATA_NON_FINITE: 'A column holds NaN or infinite values.',
  ERR_PLAN: 'The sample plan belongs to another data set, seed or version.',
  ERR_SAFETENSORS: 'A safetensors file is malformed, or lacks a required tensor.',
  ERR_CHECKPOINT_DAMAGED: 'A checkpoint is incomplete, or does not match the hashes in its manifest.',
  ERR_CHECKPOINT_MISSING: 'There is no checkpoint at the path, or no valid one.',
  ERR_CHECKPOINT_MISMATCH: 'A checkpoint belongs to another model, optimizer, data set or format version.',
  ERR_CHECKPOINT_WRITE:
    'A checkpoint could not be written, or there is no room for one; earlier checkpoints are untouched.',
  ERR_MODEL_TENSORS: 'Tensors of a weights file are missing, unexpected or of the wrong shape.',
  ERR_PROMPT: 'A prompt has no words, or a word that the text encoders do not know.',
  ERR_PORT: 'The address is in use or cannot be bound.',
  ERR_RUN_DIR: 'The run folder cannot be used: not writable, or it belongs to another run.',
  ERR_HOST: 'A host of the run cannot be reached, or does not have what the run needs.',
  ERR_RUN_LOCKED: 'Another process is running in the same run folder.',
  ERR_NOT_RUNNING: 'No run is in progress in the run folder.',
  ERR_STOP: 'A run cannot be stopped: it belongs to another user, did not end in time, or saved nothing.',
  ERR_TOKEN:
    'A process could not prove that it belongs to the run: its credential, token or certificate is not valid.',
  ERR_PROTOCOL:
    'Two processes of a run use different versions of the protocol, or one sent an unexpected message.',
  ERR_JOIN_TIMEOUT: 'Not all workers joined or became ready in time.',
  ERR_WORKER_LOST: 'A worker died or could not be reached.',
  ERR_COORDINATOR_LOST: 'The coordinator died or could not be reached.',
  ERR_STATE_MISMATCH: 'The workers do not hold the same state.',
  ERR_NON_FINITE: 'A gradient holds NaN or infinite values; the step was not applied.',
  ERR_PROGRESS: 'A worker is alive but has made no progress for too long.',
  ERR_SHARED_MEMORY: 'Workers of one machine cannot share memory.',
  ERR_EXCHANGE: 'Gradients could not be exchanged between two workers.',
  ERR_MODEL_SPEC: 'The shape of a model or of its batch is out of range.',
  ERR_NO_EMA: 'EMA weights were asked for where none are held.',
  ERR_EMA_UNTRAINED: 'The EMA to export is to a large part the weights with which the run started.',
  ERR_NATIVE_ARGUMENT: 'A native function was called with a value of another type or out of range.',
  ERR_EMULATED: 'The emulated GPU, which is for tests, met what a real GPU forbids.',
  ERR_STUDY: 'A run of a study failed, or was trained with another configuration.',
  ERR_INTERNAL: 'A condition that should always hold does not; this is a bug in orchestrator.',
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** Exit codes of the command line; those of signals are in signals.ts. `hung`: ended by its watchdog. */
export const EXIT = { done: 0, failed: 1, usage: 2, unsaved: 3, unfinished: 4, hung: 70 } as const;

interface ErrorOptions {
  hint?: string | null;
  cause?: unknown;
  also?: readonly OrchestratorError[];
}

/** An error of this program; everything that it throws on purpose is one. */
export class OrchestratorError extends Error {
  override readonly name = 'OrchestratorError';
  readonly code: ErrorCode;
  /** What the user can do about it, or null. */
  readonly hint: string | null;
  /** Further problems, so that all of them can be fixed at once. */
  readonly also: readonly OrchestratorError[];

  /** The third argument is a hint, or an object where there is more to say. */
  constructor(code: ErrorCode, message: string, more: string | null | ErrorOptions = null) {
    const { hint, cause, also }: ErrorOptions = typeof more === 'string' ? { hint: more } : (more ?? {});
    super(message, cause ? { cause } : undefined);
    this.code = code;
    this.hint = hint ?? null;
    this.also = also ?? [];
  }
}

/** Throws all problems as one error, under the code of the first; returns when there are none. */
export function refuse(problems: readonly OrchestratorError[]): void {
  const [first, ...others] = problems;
  if (first === undefined) return;
  const { code, message, hint, cause } = first;
  throw new OrchestratorError(code, message, { hint, cause, also: [...first.also, ...others] });
}
