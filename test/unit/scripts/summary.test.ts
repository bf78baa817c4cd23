import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

describe('the sum of the test runners', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'summary-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function summary(
    native: string | null,
    vitest: object | null,
    statuses = ['0', '0'],
  ): { status: number | null; last: string } {
    rmSync(join(folder, 'vitest.json'), { force: true });
    if (native !== null) writeFileSync(join(folder, 'native.txt'), native);
    if (vitest !== null) writeFileSync(join(folder, 'vitest.json'), JSON.stringify(vitest));
    const { status, stdout } = spawnSync(
      process.execPath,
      ['scripts/test-summary.mjs', folder, ...statuses],
      {
        encoding: 'utf8',
      },
    );
    return { status, last: stdout.trim().split('\n').at(-1)! };
  }

  const report = (passed: number, failed: number, testResults: object[] = []) => ({
    numPassedTests: passed,
    numFailedTests: failed,
    numPendingTests: 0,
    testResults,
  });

  it('adds them up', () => {
    expect(summary('1 skipped\n3 passed, 0 failed\n', report(4, 0))).toEqual({
      status: 0,
      last: '7 passed, 0 failed',
    });
  });

  it('fails where one of them does', () => {
    expect(summary('3 passed, 1 failed\n', report(4, 0))).toEqual({ status: 1, last: '7 passed, 1 failed' });
    expect(summary('3 passed, 0 failed\n', report(4, 2))).toEqual({ status: 1, last: '7 passed, 2 failed' });
  });

  it('fails where a runner fails without a failed test', () => {
    expect(summary('3 passed, 0 failed\n', report(4, 0), ['0', '1'])).toEqual({
      status: 1,
      last: '7 passed, 1 failed',
    });
    expect(summary('3 passed, 0 failed\n', report(4, 0), ['139', '0'])).toEqual({
      status: 1,
      last: '7 passed, 1 failed',
    });
  });

  it('counts a runner that crashed before its summary, and a file that cannot be loaded', () => {
    expect(summary('FAIL x\n', report(4, 0))).toEqual({ status: 1, last: '4 passed, 1 failed' });
    expect(summary('3 passed, 0 failed\n', null)).toEqual({ status: 1, last: '3 passed, 1 failed' });
    const broken = report(4, 0, [{ status: 'failed', assertionResults: [] }]);
    expect(summary('3 passed, 0 failed\n', broken)).toEqual({ status: 1, last: '7 passed, 1 failed' });
  });
});
