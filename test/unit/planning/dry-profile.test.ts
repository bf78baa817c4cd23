import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { native } from '../../../src/native/load.js';
import { dryProfile } from '../../../src/planning/dry-profile.js';
import { estimate } from '../../../src/planning/estimate.js';
import { profile } from '../../../src/planning/profile.js';
import { renderDryProfile } from '../../../src/planning/profile-page.js';
import { yaml } from '../../support/config.js';

const CONFIG = `
name: x
data:
  path: nowhere
  latent_shape: [16, 16, 16]
  text_shape: {clip_l: [8, 64], clip_g: [8, 64], t5: [8, 128]}
model: {depth: 2, hidden: 128}
batch: {global: 6, micro: 2}
`;
const RATES = { flops: 4e11, bandwidth: 4e10 };

describe('a dry profile', () => {
  test('has the operations that a profile measures', { timeout: 60_000 }, async () => {
    const config = loadConfig(yaml(CONFIG));
    const { ops } = await dryProfile(native(), config, null);
    const { ops: measured } = await profile(native(), config, 1);
    const planned = ({ name, count, flops, bytes }: (typeof measured | typeof ops)[number]) =>
      [name, count, flops, bytes] as const;
    const byName = (a: readonly [string, ...unknown[]], b: readonly [string, ...unknown[]]) =>
      a[0] < b[0] ? -1 : 1;
    expect(ops.map(planned).sort(byName)).toEqual(measured.map(planned).sort(byName));
    expect(ops.every(({ seconds, bound }) => seconds === null && bound === null)).toBe(true);
  });

  test.each(['nothing', 'norms', 'mlp', 'block'] as const)('counts what %s computes again', async (level) => {
    const config = loadConfig(yaml(`${CONFIG}activation_checkpointing: ${level}\n`));
    const { ops, step } = await dryProfile(native(), config, null);
    const { levels } = await estimate(native(), config, 1, null);
    const executed = levels.find((other) => other.level === level)!.executedFlops;
    expect(ops.reduce((sum, { flops }) => sum + flops, 0)).toBeCloseTo(executed / 3, -1);
    expect(step.map(({ name, count }) => [name, count])).toEqual([
      ['micro-batches, forward and backward', 3],
      ['sums of gradients', 2],
      ['update', 1],
    ]);
    expect(step[0]!.flops).toBeCloseTo(executed, -1);
  });

  test('takes as long as the slower of work and bytes, slowest first, and no less than the estimate', async () => {
    const config = loadConfig(yaml(CONFIG));
    const result = await dryProfile(native(), config, RATES);
    for (const { flops, bytes, seconds, bound } of result.ops) {
      const [matmul, memory] = [flops / RATES.flops, bytes / RATES.bandwidth];
      expect(seconds).toBe(Math.max(matmul, memory));
      expect(bound).toBe(matmul > memory ? 'matmul' : 'memory');
    }
    const times = result.ops.map(({ seconds }) => seconds!);
    expect(times).toEqual([...times].sort((a, b) => b - a));
    const total = result.step.reduce((sum, { seconds }) => sum + seconds!, 0);
    const { levels } = await estimate(native(), config, 1, RATES);
    expect(total).toBeGreaterThanOrEqual(levels[0]!.time!.total * (1 - 1e-9));
    expect(total).toBeLessThan(levels[0]!.time!.total * 1.5);
  });

  test('is a page, with times where there are rates', async () => {
    const config = loadConfig(yaml(CONFIG));
    const plain = renderDryProfile(await dryProfile(native(), config, null), 200);
    expect(plain).toMatch(/^operations of a micro-batch +count +work +bytes$/m);
    expect(plain).toMatch(/^linear +\d+ +\S+ MFLOP +\S+ MB$/m);
    expect(plain).toMatch(/^a step of one worker with its 3 slots +count +work +bytes$/m);
    expect(plain).not.toMatch(/least time|at most/);
    const timed = renderDryProfile(await dryProfile(native(), config, RATES), 200);
    expect(timed).toMatch(
      /^rates +matmuls 400 GFLOP\/s, memory 40\.0 GB\/s \(read and written\), as given$/m,
    );
    expect(timed).toMatch(/^linear .* (ms|us) +\S+ % +(matmul|memory)$/m);
    expect(timed).toMatch(/^at most .* of the matmuls' rate$/m);
  });
});
