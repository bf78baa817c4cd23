import { CommanderError, InvalidArgumentError } from 'commander';
import { describe, expect, test } from 'vitest';
import { reportError } from '../../../src/cli/report.js';
import { OrchestratorError } from '../../../src/errors.js';

describe('reportError', () => {
  test('prints code, message and hint, without a stack', () => {
    const error = new OrchestratorError('ERR_PORT', '127.0.0.1:80 is in use', 'choose another port');
    expect(reportError(error, false)).toEqual({
      text: 'error ERR_PORT: 127.0.0.1:80 is in use\nhint: choose another port\n',
      exitCode: 1,
    });
  });

  test('prints what a command finds wrong with its arguments, which nobody has printed', () => {
    expect(reportError(new InvalidArgumentError('Expected a row.'), false)).toEqual({
      text: 'error ERR_USAGE: Expected a row.\n',
      exitCode: 2,
    });
  });

  test.each(['ERR_CONFIG', 'ERR_USAGE'] as const)('exits with 2 for %s', (code) => {
    expect(reportError(new OrchestratorError(code, 'x'), false).exitCode).toBe(2);
  });

  test('adds the stacks of the error and of its causes with --debug', () => {
    const error = new OrchestratorError('ERR_PORT', 'outer', { cause: new TypeError('inner') });
    const { text } = reportError(error, true);
    expect(text).toContain('OrchestratorError: outer\n    at ');
    expect(text).toContain('caused by: TypeError: inner\n    at ');
  });

  test('keeps the code of native errors', () => {
    const error = Object.assign(new Error('closed'), { code: 'ERR_HANDLE' });
    expect(reportError(error, false)).toEqual({ text: 'error ERR_HANDLE: closed\n', exitCode: 1 });
  });

  test('calls refusals of the operating system what they are', () => {
    const error = Object.assign(new Error("EACCES: permission denied, open 'x'"), {
      code: 'EACCES',
      syscall: 'open',
    });
    expect(reportError(error, false).text).toBe("error ERR_SYSTEM: EACCES: permission denied, open 'x'\n");
  });

  test('calls everything else a bug', () => {
    expect(reportError(new TypeError('undefined is not a function'), false).text).toMatch(
      /^error ERR_INTERNAL: undefined is not a function\nhint: this is a bug/,
    );
  });

  test('says nothing more where commander has spoken', () => {
    expect(reportError(new CommanderError(0, 'commander.helpDisplayed', ''), false)).toEqual({
      text: '',
      exitCode: 0,
    });
    expect(reportError(new CommanderError(1, 'commander.unknownOption', 'x'), false).exitCode).toBe(2);
  });
});
