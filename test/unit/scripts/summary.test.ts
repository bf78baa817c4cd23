import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../../support/folders.js';

const SUMMARY = resolve('scripts/summary.mjs');

function node(environment: NodeJS.ProcessEnv, ...parameters: string[]) {
  const env = { PATH: process.env.PATH, NO_COLOR: '1', ...environment };
  const { status, stdout } = spawnSync(process.execPath, parameters, { encoding: 'utf8', env });
  return { status, lines: stdout.trim().split('\n') };
}

/** Runs a file of tests by vitest itself. */
function vitest(source: string, environment: NodeJS.ProcessEnv = {}, ...more: string[]) {
  const root = temporaryFolder();
  writeFileSync(join(root, 'a.test.js'), source);
  const config = { name: 'demo', globals: true, reporters: [SUMMARY] };
  writeFileSync(join(root, 'vitest.config.mjs'), `export default { test: ${JSON.stringify(config)} };`);
  return node(environment, 'node_modules/vitest/vitest.mjs', 'run', '--root', root, ...more);
}

const TESTS = `
  test('passes', () => {});
  test('has a reason', ({ skip }) => skip('needs a GPU'));
  describe('a group', () => {
    test('is slow', () => new Promise((resolve) => setTimeout(resolve, 300)));
    test.skip('has one in its name [needs root]', () => {});
    test('fails', () => expect(1).toBe(2));
  });
  describe('another', () => {
    beforeAll(() => { throw new Error('no folder'); });
    test('cannot begin', () => {});
  });`;

test('a run ends in what was skipped and why, the slowest tests, what failed, and the sum', () => {
  const { status, lines } = vitest(TESTS);
  expect(status).toBe(1);
  expect(lines.slice(0, 5)).toEqual([
    'skipped: demo: a.test.js: has a reason [needs a GPU]',
    'skipped: demo: a.test.js: a group > has one in its name [needs root]',
    'skipped: demo: a.test.js: another > cannot begin',
    'the slowest tests:',
    expect.stringMatching(/^ +0\.\d s {2}demo: a\.test\.js: a group > is slow$/),
  ]);
  expect(lines.slice(-5)).toEqual([
    'failed: demo: a.test.js: a group > fails',
    'failed: demo: a.test.js: no folder',
    'demo: 2 passed, 2 failed',
    '3 skipped',
    '2 passed, 2 failed',
  ]);
});

test('what -t does not select is not told as skipped', () => {
  expect(vitest(TESTS, {}, '-t', 'a group is').lines).toEqual([
    'the slowest tests:',
    expect.stringContaining('is slow'),
    'demo: 1 passed, 0 failed',
    '1 passed, 0 failed',
  ]);
});

test('a file that cannot be loaded, and what nobody waited for, are failures', () => {
  expect(vitest('import "./missing.js";').lines.at(-1)).toBe('0 passed, 1 failed');
  const unhandled = vitest('test("passes", () => { Promise.reject(new Error("forgotten")); });');
  expect(unhandled).toMatchObject({
    status: 1,
    lines: expect.arrayContaining(['failed: vitest: forgotten']),
  });
  expect(unhandled.lines.at(-1)).toBe('1 passed, 1 failed');
});

test('several runs and checks have one sum', () => {
  const file = join(temporaryFolder(), 'results');
  const sum = () => node({}, SUMMARY, file);
  writeFileSync(file, '');
  expect(sum()).toMatchObject({ status: 1, lines: expect.arrayContaining(['0 passed, 0 failed']) });
  writeFileSync(file, 'check\tpassed\t0\tformat\ncheck\tskipped\t0\tnvcc [needs nvcc]\n');
  vitest('test("one", () => {}); test("two", () => {});', {
    ORCHESTRATOR_RESULTS: file,
    ORCHESTRATOR_RUN: 'avx2',
  });
  expect(readFileSync(file, 'utf8')).toMatch(/^demo, avx2\tpassed\t[\d.]+\ta\.test\.js: one$/m);
  expect(sum()).toMatchObject({ status: 0 });
  expect(sum().lines.slice(-3)).toEqual([
    'demo, avx2: 2 passed, 0 failed',
    '1 skipped',
    '3 passed, 0 failed',
  ]);
  writeFileSync(file, 'check\tfailed\t0\ttypes\ncheck\tpassed\t0\tformat\n');
  expect(sum()).toMatchObject({ status: 1, lines: expect.arrayContaining(['failed: check: types']) });
});
