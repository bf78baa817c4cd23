/** Errors as the user sees them: `error ERR_CODE: message`, a hint, and an exit code. */
import { CommanderError } from 'commander';
import { ERRORS, type ErrorCode, EXIT, OrchestratorError } from '../errors.js';

const USAGE: ReadonlySet<string> = new Set<ErrorCode>(['ERR_CONFIG', 'ERR_USAGE']);

/**
 * The lines for stderr and the exit code of an error.
 *
 * @param debug Adds the stacks of the error and its causes.
 */
export function reportError(error: unknown, debug: boolean): { text: string; exitCode: number } {
  if (error instanceof CommanderError) {
    // Commander has printed its message or the help.
    return { text: '', exitCode: error.exitCode === 0 ? EXIT.done : EXIT.usage };
  }
  const { code } = describeError(error);
  const also = error instanceof OrchestratorError ? error.also : [];
  const lines = [error, ...also].flatMap(linesOf);
  if (debug) lines.push(stacks(error));
  return { text: `${lines.join('\n')}\n`, exitCode: USAGE.has(code) ? EXIT.usage : EXIT.failed };
}

function linesOf(error: unknown): string[] {
  const { code, message, hint } = describeError(error);
  return [`error ${code}: ${message}`, ...(hint === null ? [] : [`hint: ${hint}`])];
}

function describeError(error: unknown): { code: string; message: string; hint: string | null } {
  if (error instanceof OrchestratorError) return error;
  if (!(error instanceof Error)) return { code: 'ERR_INTERNAL', message: String(error), hint: null };
  const code = (error as NodeJS.ErrnoException).code;
  // Native errors carry one of our codes on a plain Error.
  if (code !== undefined && Object.hasOwn(ERRORS, code)) return { code, message: error.message, hint: null };
  if ((error as NodeJS.ErrnoException).syscall !== undefined) {
    return { code: 'ERR_SYSTEM', message: error.message, hint: null };
  }
  const hint = 'this is a bug in orchestrator; --debug prints where it happened';
  return { code: 'ERR_INTERNAL', message: error.message, hint };
}

function stacks(error: unknown): string {
  const parts: string[] = [];
  let current: unknown = error;
  while (current instanceof Error && parts.length < 8) {
    parts.push(current.stack ?? current.message);
    current = current.cause;
  }
  return parts.join('\ncaused by: ');
}
