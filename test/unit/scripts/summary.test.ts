import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

describe('the sum of test runs', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'summary-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  interface Run {
    name?: string;
    native?: string | null;
    vitest?: object | null;
    check?: true;
    skip?: true;
    status?: number;
  }

  function lines(...runs: Run[]): { status: number | null; lines: string[] } {
    const table = runs.map(({ name = 'all', native, vitest, skip, status = 0 }) => {
      const other = skip ? 'skip' : 'check';
      const kind = native !== undefined ? 'native' : vitest !== undefined ? 'vitest' : other;
      if (native) writeFileSync(join(folder, `${name}.txt`), native);
      if (vitest) writeFileSync(join(folder, `${name}.json`), JSON.stringify(vitest));
      return `${kind}\t${name}\t${status}\n`;
    });
    rmSync(join(folder, 'runs.tsv'), { force: true });
    if (runs.length > 0) writeFileSync(join(folder, 'runs.tsv'), table.join(''));
    const { status, stdout } = spawnSync(process.execPath, ['scripts/test-summary.mjs', folder], {
      encoding: 'utf8',
    });
    return { status, lines: stdout.trim().split('\n') };
  }

  function summary(...runs: Run[]): { status: number | null; last: string } {
    const { status, lines: all } = lines(...runs);
    return { status, last: all.at(-1)! };
  }

  const report = (passed: number, failed: number, testResults: object[] = []) => ({
    numPassedTests: passed,
    numFailedTests: failed,
    testResults,
  });
  const file = (path: string, ...tests: [status: string, fullName: string, milliseconds?: number][]) => ({
    name: resolve(path),
    status: 'passed',
    assertionResults: tests.map(([status, fullName, duration]) => ({ status, fullName, duration })),
  });

  it('adds them up', () => {
    const runs = [{ native: '1 skipped\n3 passed, 0 failed\n' }, { vitest: report(4, 0) }];
    expect(summary(...runs)).toEqual({ status: 0, last: '7 passed, 0 failed' });
    const more = [
      { name: 'avx2', native: '2 passed, 0 failed\n' },
      { name: 'lint', check: true as const },
    ];
    expect(summary(...runs, ...more)).toEqual({ status: 0, last: '10 passed, 0 failed' });
  });

  it('fails where one of them does', () => {
    const good = { vitest: report(4, 0) };
    expect(summary({ native: '3 passed, 1 failed\n', status: 1 }, good)).toEqual({
      status: 1,
      last: '7 passed, 1 failed',
    });
    expect(summary({ native: '3 passed, 0 failed\n' }, { vitest: report(4, 2), status: 1 })).toEqual({
      status: 1,
      last: '7 passed, 2 failed',
    });
    expect(summary(good, { name: 'format', check: true, status: 123 })).toEqual({
      status: 1,
      last: '4 passed, 1 failed',
    });
  });

  it('fails where a runner fails without a failed test', () => {
    const [native, vitest] = [{ native: '3 passed, 0 failed\n' }, { vitest: report(4, 0) }];
    expect(summary(native, { ...vitest, status: 1 })).toEqual({ status: 1, last: '7 passed, 1 failed' });
    expect(summary({ ...native, status: 139 }, vitest)).toEqual({ status: 1, last: '7 passed, 1 failed' });
  });

  it('counts a runner that crashed before its summary, and a file that cannot be loaded', () => {
    const native = { native: '3 passed, 0 failed\n' };
    expect(summary({ native: 'FAIL x\n' }, { vitest: report(4, 0) })).toEqual({
      status: 1,
      last: '4 passed, 1 failed',
    });
    expect(summary(native, { name: 'avx2', vitest: null })).toEqual({
      status: 1,
      last: '3 passed, 1 failed',
    });
    const broken = report(4, 0, [{ name: resolve('a.test.ts'), status: 'failed', assertionResults: [] }]);
    expect(summary(native, { vitest: broken })).toEqual({ status: 1, last: '7 passed, 1 failed' });
    expect(summary()).toEqual({ status: 1, last: '0 passed, 1 failed' });
  });

  it('lists what failed, each skipped test with its reason, and the slowest ten of all', () => {
    const slow = Array.from({ length: 9 }, (_, i) => `ok   case ${i} (1 MiB) (${i + 2}.50 s)\n`).join('');
    const native = `${slow}  x.cc:3: wrong\nFAIL a gate (2 failures, 0.10 s)\nskip a GPU [there is none]\n1 skipped\n9 passed, 1 failed\n`;
    const mount = 'a full disk [needs mount (Debian package mount)]';
    const vitest = report(2, 0, [
      file('test/a.test.ts', ['passed', 'quick', 9], ['passed', 'long', 61_040], ['skipped', mount]),
    ]);
    expect(
      lines({ native, status: 1 }, { name: 'avx2', vitest }, { name: 'nvcc [needs it]', skip: true }),
    ).toEqual({
      status: 1,
      lines: [
        'skipped: C++: a GPU [there is none]',
        `skipped: TypeScript, avx2: test/a.test.ts: ${mount}`,
        'skipped: check: nvcc [needs it]',
        'the slowest tests:',
        '   61.0 s  TypeScript, avx2: test/a.test.ts: long',
        ...[8, 7, 6, 5, 4, 3, 2, 1, 0].map(
          (i) => `${(i + 2.5).toFixed(1).padStart(7)} s  C++: case ${i} (1 MiB)`,
        ),
        'failed: C++: a gate',
        'C++: 9 passed, 1 failed',
        'TypeScript, avx2: 2 passed, 0 failed',
        '3 skipped',
        '11 passed, 1 failed',
      ],
    });
  });
});
