/**
 * Errors as users meet them: a stable code, one sentence that names the thing and the value, and what to do about it.
 * `docs/errors.md` is generated from this table.
 */
export const ERRORS = {
  ERR_CONFIG: 'The configuration is invalid.',
  ERR_USAGE: 'The command line is invalid.',
  ERR_NATIVE_MISSING: 'The native addon is not built, or cannot be loaded on this machine.',
  ERR_HANDLE: 'A native object was used after it was closed, or in place of another kind.',
  ERR_ISA: 'The requested instruction set is not available on this processor.',
  ERR_TENSOR_SHAPE: 'A tensor has another shape than the model needs.',
  ERR_INTERNAL: 'A condition that should always hold does not; this is a bug in orchestrator.',
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** Exit codes of the command line. */
export const EXIT = { done: 0, failed: 1, usage: 2, interrupted: 130, preempted: 143 } as const;

export class OrchestratorError extends Error {
  override readonly name = 'OrchestratorError';
  readonly code: ErrorCode;
  /** What the user can do about it, or null. */
  readonly hint: string | null;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint ?? null;
  }
}
