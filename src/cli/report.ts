/** Errors as the user sees them: `error ERR_CODE: message`, a hint, and an exit code. */
import { CommanderError, InvalidArgumentError } from 'commander';
import { type ErrorCode, EXIT, OrchestratorError } from '../errors.js';
import { faultLines, faultOf } from '../fault.js';

const USAGE: ReadonlySet<string> = new Set<ErrorCode>(['ERR_CONFIG', 'ERR_USAGE']);
const BUG = 'this is a bug in orchestrator; --debug prints where it happened';

/**
 * The lines for stderr and the exit code of an error.
 *
 * @param debug Adds the stacks of the error and its causes.
 */
export function reportError(error: unknown, debug: boolean): { text: string; exitCode: number } {
  if (error instanceof InvalidArgumentError) {
    // Commander has printed those of its parsers, and ends with another error; this one is of a command.
    return { text: `error ERR_USAGE: ${error.message}\n`, exitCode: EXIT.usage };
  }
  if (error instanceof CommanderError) {
    // Commander has printed its message or the help.
    return { text: '', exitCode: error.exitCode === 0 ? EXIT.done : EXIT.usage };
  }
  const { code } = faultOf(error);
  const also = error instanceof OrchestratorError ? error.also : [];
  const lines = [error, ...also].flatMap(linesOf);
  if (debug) lines.push(stacks(error));
  return { text: `${lines.join('\n')}\n`, exitCode: USAGE.has(code) ? EXIT.usage : EXIT.failed };
}

function linesOf(error: unknown): string[] {
  const [first, ...hints] = faultLines(faultOf(error, BUG));
  return [`error ${first}`, ...hints];
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
