// Prints "N passed, N failed" over all test runners as the last line; exits 1 where something failed or a runner said nothing.
//   node scripts/test-summary.mjs FOLDER NATIVE_STATUS VITEST_STATUS
// FOLDER holds native.txt (orch_test's output) and vitest.json; the statuses are the runners' exit codes.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, nativeStatus, vitestStatus] = process.argv.slice(2);

function read(name) {
  const path = join(folder, name);
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

/** A runner without a summary has crashed: that counts as one failure. */
function native(text) {
  const summary = /^(\d+) passed, (\d+) failed$/m.exec(text);
  if (summary === null) return { passed: 0, failed: 1, skipped: 0 };
  const skipped = /^(\d+) skipped$/m.exec(text);
  return { passed: Number(summary[1]), failed: Number(summary[2]), skipped: Number(skipped?.[1] ?? 0) };
}

function vitest(text) {
  if (text === '') return { passed: 0, failed: 1, skipped: 0 };
  const report = JSON.parse(text);
  // A file that cannot be loaded is a failed suite without tests.
  const brokenFiles = report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  );
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + brokenFiles.length,
    skipped: report.numPendingTests + (report.numTodoTests ?? 0),
  };
}

/** A runner can fail without a failed test: by an unhandled rejection, or by crashing after its summary. */
function withStatus(counts, status) {
  return counts.failed === 0 && status !== '0' ? { ...counts, failed: 1 } : counts;
}

const parts = [
  withStatus(native(read('native.txt')), nativeStatus),
  withStatus(vitest(read('vitest.json')), vitestStatus),
];
const sum = (key) => parts.reduce((total, part) => total + part[key], 0);
const skipped = sum('skipped');
console.log(
  `C++: ${parts[0].passed} passed, ${parts[0].failed} failed; TypeScript: ${parts[1].passed} passed, ${parts[1].failed} failed`,
);
if (skipped > 0) console.log(`${skipped} skipped`);
console.log(`${sum('passed')} passed, ${sum('failed')} failed`);
process.exit(sum('failed') > 0 || sum('passed') === 0 ? 1 : 0);
