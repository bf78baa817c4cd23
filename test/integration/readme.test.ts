import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'readme-'));
afterAll(() => rmSync(folder, { recursive: true }));

const readme = readFileSync('README.md', 'utf8');

function orchestrator(...argv: string[]): string {
  const result = spawnSync(process.execPath, ['dist/cli/main.js', ...argv], { encoding: 'utf8' });
  expect(result.status, result.stderr).toBe(0);
  return result.stdout;
}

it('the run on a Hugging Face folder works as the README has it', () => {
  const config = join(folder, 'my-run.yaml');
  const run = join(folder, 'run');
  writeFileSync(config, /```yaml\n([\s\S]*?)```/.exec(readme)![1]!);
  const data = 'test/fixtures/huggingface/nested';
  const small = ['validation_rows=4', `path=${data}`].map((value) => `data.${value}`);
  const short = ['batch={global: 4, micro: 2}', 'schedule={steps: 3, warmup: 1}'];
  const overrides = [...small, ...short].flatMap((value) => ['--set', value]);

  expect(orchestrator('dataset', 'verify', data)).toContain('all finite');
  const launch = ['launch', config, '--nodes', '2', '--run-dir', run, ...overrides];
  expect(orchestrator(...launch, '--dry-run')).toContain('rank 1');
  expect(orchestrator(...launch)).toContain('step 3/3');
  expect(orchestrator('checkpoint', 'inspect', run)).toMatch(/^step +3$/m);
});
