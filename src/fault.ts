/** Errors as users see them: what is sent to the coordinator, and what is printed. */
import { ERRORS, type ErrorCode, OrchestratorError } from './errors.js';

/** The part of an error that users see; an OrchestratorError is one. */
export interface Fault {
  code: ErrorCode;
  message: string;
  /** What the user can do about it, or null. */
  hint: string | null;
}

/**
 * What users see of an error of any kind.
 *
 * @param bug The hint for errors that should not happen.
 */
export function faultOf(error: unknown, bug = 'this is a bug in orchestrator'): Fault {
  if (error instanceof OrchestratorError) return error;
  if (!(error instanceof Error)) return { code: 'ERR_INTERNAL', message: String(error), hint: null };
  const { code, message, syscall } = error as NodeJS.ErrnoException;
  // Native errors carry one of our codes on a plain Error.
  if (code !== undefined && isErrorCode(code)) return { code, message, hint: null };
  if (syscall !== undefined) return { code: 'ERR_SYSTEM', message, hint: null };
  return { code: 'ERR_INTERNAL', message, hint: bug };
}

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}

/** "ERR_CODE: message", and the hint as a line of its own. */
export function faultLines({ code, message, hint }: Fault): [string, ...string[]] {
  return [`${code}: ${message}`, ...(hint === null ? [] : [`hint: ${hint}`])];
}
