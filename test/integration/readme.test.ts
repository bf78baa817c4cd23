import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../support/folders.js';
import { orchestrator, succeeds } from '../support/program.js';

const folder = temporaryFolder();

const readme = readFileSync('README.md', 'utf8');

const run = (...argv: string[]) => succeeds(orchestrator(...argv));

test('the run on a Hugging Face folder works as the README has it', () => {
  const config = join(folder, 'my-run.yaml');
  const runDir = join(folder, 'run');
  writeFileSync(config, /```yaml\n([\s\S]*?)```/.exec(readme)![1]!);
  const data = 'test/fixtures/huggingface/nested';
  const small = ['validation_rows=4', `path=${data}`].map((value) => `data.${value}`);
  const short = ['batch={global: 4, micro: 2}', 'schedule={steps: 3, warmup: 1}'];
  const overrides = [...small, ...short].flatMap((value) => ['--set', value]);

  expect(run('dataset', 'verify', data)).toContain('all finite');
  const launch = ['launch', config, '--nproc-per-node', '2', '--run-dir', runDir, ...overrides];
  expect(run(...launch, '--dry-run')).toContain('rank 1');
  expect(run(...launch)).toContain('step 3/3');
  expect(run('checkpoint', 'inspect', runDir)).toMatch(/^step +3$/m);
});
