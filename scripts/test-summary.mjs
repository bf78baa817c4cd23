// Prints the sum of checks and test runs: what failed and what was skipped, the slowest tests, and "N passed, N failed" as
// the last line. Exits 1 where something failed, or where a run said nothing.
//   node scripts/test-summary.mjs FOLDER
// FOLDER is what scripts/runs.sh wrote: runs.tsv (kind, name, exit code), NAME.txt of orch_test, NAME.json of vitest.
import { existsSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

const SLOWEST = 10;
const folder = process.argv[2];

function read(name) {
  const path = join(folder, name);
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

/** A run without a summary has crashed: that counts as one failure. */
const CRASHED = { passed: 0, failed: 1, tests: [] };

/** Reads orch_test's lines: "ok   NAME (1.23 s)", "FAIL NAME (2 failures, 1.23 s)", "skip NAME [REASON]". */
function native(text) {
  const summary = /^(\d+) passed, (\d+) failed$/m.exec(text);
  if (summary === null) return CRASHED;
  const tests = [...text.matchAll(/^(ok|FAIL|skip) +(.*)$/gm)].map(([, word, rest]) => {
    const timed = /^(.*) \((?:\d+ failures, )?([\d.]+) s\)$/.exec(rest);
    const state = { ok: 'passed', FAIL: 'failed', skip: 'skipped' }[word];
    return { state, name: timed?.[1] ?? rest, seconds: Number(timed?.[2] ?? 0) };
  });
  return { passed: Number(summary[1]), failed: Number(summary[2]), tests };
}

function vitest(text) {
  if (text === '') return CRASHED;
  let report;
  try {
    report = JSON.parse(text);
  } catch {
    return CRASHED; // ended while it was written
  }
  const tests = report.testResults.flatMap(({ name: path, assertionResults }) =>
    assertionResults.map(({ status, fullName, duration }) => ({
      state: status === 'passed' || status === 'failed' ? status : 'skipped',
      name: `${relative(process.cwd(), path)}: ${fullName}`,
      seconds: (duration ?? 0) / 1000,
    })),
  );
  // A file that cannot be loaded is a failed suite without tests.
  const broken = report.testResults
    .filter(({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0)
    .map(({ name: path }) => ({
      state: 'failed',
      name: `${relative(process.cwd(), path)}: cannot be loaded`,
      seconds: 0,
    }));
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + broken.length,
    tests: [...tests, ...broken],
  };
}

function check(status) {
  return { passed: status === '0' ? 1 : 0, failed: status === '0' ? 0 : 1, tests: [] };
}

const runs = read('runs.tsv')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => {
    const [kind, name, status] = line.split('\t');
    if (kind === 'check') return { label: `check: ${name}`, ...check(status) };
    if (kind === 'skip')
      return { label: 'check', passed: 0, failed: 0, tests: [{ state: 'skipped', name, seconds: 0 }] };
    const run = kind === 'native' ? native(read(`${name}.txt`)) : vitest(read(`${name}.json`));
    const label = `${kind === 'native' ? 'C++' : 'TypeScript'}${name === 'all' ? '' : `, ${name}`}`;
    // A runner can fail without a failed test: by an unhandled rejection, or by crashing after its summary.
    return { label, ...run, failed: run.failed === 0 && status !== '0' ? 1 : run.failed };
  });

const tests = runs.flatMap(({ label, tests }) => tests.map((test) => ({ ...test, label })));
const of = (state) => tests.filter((test) => test.state === state);
const skipped = of('skipped');
for (const { label, name } of skipped) console.log(`skipped: ${label}: ${name}`);
console.log('the slowest tests:');
const slowest = tests
  .filter(({ state }) => state !== 'skipped')
  .toSorted((a, b) => b.seconds - a.seconds)
  .slice(0, SLOWEST);
for (const { label, name, seconds } of slowest)
  console.log(`${seconds.toFixed(1).padStart(7)} s  ${label}: ${name}`);
for (const { label, name } of of('failed')) console.log(`failed: ${label}: ${name}`);
for (const { label, passed, failed } of runs)
  if (passed + failed > 0) console.log(`${label}: ${passed} passed, ${failed} failed`);
if (skipped.length > 0) console.log(`${skipped.length} skipped`);
const sum = (key) => runs.reduce((total, run) => total + run[key], 0);
const failed = runs.length === 0 ? 1 : sum('failed');
console.log(`${sum('passed')} passed, ${failed} failed`);
process.exit(failed > 0 || sum('passed') === 0 ? 1 : 0);
