// The sum of tests: what was skipped and why, the slowest, what failed, and "N passed, N failed" as the last
// line. It is a reporter of vitest. It also adds up several runs: each appends to the file that
// ORCHESTRATOR_RESULTS names, and `node scripts/summary.mjs FILE` prints the sum. A line is PROJECT,
// passed|failed|skipped, SECONDS and NAME between tabs.
import { appendFileSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const SLOWEST = 10;

/** Returns whether something passed and nothing failed. */
function print(results) {
  const of = (state) => results.filter((result) => result.state === state);
  const [passed, failed, skipped] = [of('passed'), of('failed'), of('skipped')];
  for (const { project, name } of skipped) console.log(`skipped: ${project}: ${name}`);
  console.log('the slowest tests:');
  const slowest = [...passed, ...failed].sort((a, b) => b.seconds - a.seconds).slice(0, SLOWEST);
  for (const { project, seconds, name } of slowest)
    console.log(`${seconds.toFixed(1).padStart(7)} s  ${project}: ${name}`);
  for (const { project, name } of failed) console.log(`failed: ${project}: ${name}`);
  for (const project of new Set(results.map((result) => result.project))) {
    const [good, bad] = [passed, failed].map((list) => list.filter((result) => result.project === project));
    console.log(`${project}: ${good.length} passed, ${bad.length} failed`);
  }
  if (skipped.length > 0) console.log(`${skipped.length} skipped`);
  console.log(`${passed.length} passed, ${failed.length} failed`);
  return passed.length > 0 && failed.length === 0;
}

export default class Summary {
  /** What `-t` does not select has not been skipped for a reason. */
  #selects = () => true;

  onInit({ config: { testNamePattern: pattern } }) {
    if (pattern) this.#selects = ({ fullName }) => pattern.test(fullName.replaceAll(' > ', ' '));
  }

  onTestRunEnd(modules, errors) {
    const { ORCHESTRATOR_RUN: run, ORCHESTRATOR_RESULTS: file } = process.env;
    const results = [];
    const add = (project, state, seconds, name) => {
      results.push({ project: run ? `${project}, ${run}` : project, state, seconds, name });
    };
    for (const module of modules) {
      const { project, relativeModuleId: path, children } = module;
      for (const test of children.allTests()) {
        if (!this.#selects(test)) continue;
        const { state, note } = test.result();
        const name = `${path}: ${test.fullName}${note === undefined ? '' : ` [${note}]`}`;
        const ended = state === 'pending' ? 'failed' : state;
        add(project.name, ended, (test.diagnostic()?.duration ?? 0) / 1000, name);
      }
      // Files that cannot be loaded, and hooks.
      const broken = [...children.allSuites()].flatMap((suite) => suite.errors());
      for (const { message } of [...module.errors(), ...broken])
        add(project.name, 'failed', 0, `${path}: ${message}`);
    }
    for (const { message } of errors) add('vitest', 'failed', 0, `${message}`);
    const line = ({ project, state, seconds, name }) =>
      `${[project, state, seconds, name.replaceAll(/\s+/g, ' ')].join('\t')}\n`;
    if (file) appendFileSync(file, results.map(line).join(''));
    print(results);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const lines = readFileSync(process.argv[2], 'utf8').split('\n').filter(Boolean);
  const results = lines.map((line) => {
    const [project, state, seconds, name] = line.split('\t');
    return { project, state, seconds: Number(seconds), name };
  });
  process.exit(print(results) ? 0 : 1);
}
