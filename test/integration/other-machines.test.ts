/**
 * What plans a run for another machine: no GPU, no data set and no instruction of this processor is needed
 * for it.
 */
import { expect, test } from 'vitest';
import { rows } from '../support/full.js';
import { PLAINEST_ISA } from '../support/plainest-isa.js';
import { orchestrator, orchestratorIn } from '../support/program.js';

const PLANS: [name: string, set: string][] = rows(
  [
    ['sd3-medium', 'device=cuda'],
    ['sd3.5-medium', 'precision.compute=bf16'],
    ['sd3.5-large', 'precision.compute=fp32'],
  ],
  [
    ['sd3-medium', 'precision.compute=bf16'],
    ['sd3-medium', 'precision.compute=fp32'],
    ['sd3.5-medium', 'device=cuda'],
    ['sd3.5-medium', 'precision.compute=fp32'],
    ['sd3.5-large', 'device=cuda'],
    ['sd3.5-large', 'precision.compute=bf16'],
  ],
);

/** On the plainest processor, where no library of CUDA can be opened. */
function plan(...command: string[]): string {
  const env = {
    ORCHESTRATOR_ISA: PLAINEST_ISA,
    ORCHESTRATOR_CUDA: '/missing/liborchestrator_cuda.so',
  };
  const { status, stdout, stderr } = orchestratorIn({ env }, ...command);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

test.each(PLANS)('%s with %s: estimate, profile --dry and launch --dry-run', (name, set) => {
  const config = `configs/${name}.yaml`;
  const rates = ['--flops', '400T', '--bandwidth', '3T'];
  const page = plan('estimate', config, '--nodes', '2', '--set', set, ...rates);
  expect(page).toContain('time at 400 TFLOP/s and 3.00 TB/s a worker');
  const gpu = set === 'device=cuda';
  expect(page.includes('GPU memory of a worker')).toBe(gpu);
  const precision = set.endsWith('fp32') ? 'fp32' : 'bf16';
  expect(page).toMatch(new RegExp(`^precision +${precision} \\(set by precision\\.compute\\)`, 'm'));

  const dry = plan('profile', '--dry', config, '--set', set, ...rates);
  expect(dry).toMatch(/^linear dW +\d+ .*matmul$/m);
  expect(dry.includes('GPU memory of a worker')).toBe(gpu);

  // The memory of the machine says that it is another one.
  const launch = plan('launch', '--dry-run', config, '--nodes', '2', '--set', set, '--memory', '2TiB');
  expect(launch).toMatch(
    /^data +not here \(.*There is no data set at \/.*\/data\/latents-1024 \(.*\)\): shapes/m,
  );
  expect(launch).toMatch(/^time +unknown for another machine/m);
  expect(launch).toMatch(gpu ? /^rank 1 .* a GPU \(none here: /m : /^rank 1 .* thread/m);
  expect(launch).toMatch(/^machine .* generic/m);
});

test('auto is bf16 for a GPU, whatever the processor', () => {
  const auto = ['--set', 'precision.compute=auto'];
  const page = plan('estimate', 'configs/sd3-medium.yaml', '--set', 'device=cuda', ...auto);
  expect(page).toContain('bf16 (auto: cuda multiplies bf16 at full speed)');
});

test('profile: rates only with --dry, repeats only without', () => {
  const refused = (...flags: string[]) => orchestrator('profile', 'configs/sd3-medium.yaml', ...flags);
  expect(refused('--flops', '1T')).toMatchObject({ status: 2, stderr: expect.stringContaining('--dry') });
  expect(refused('--dry', '--repeats', '2')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('--repeats'),
  });
  expect(refused('--dry', '--flops', '1T')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('--bandwidth'),
  });
});
