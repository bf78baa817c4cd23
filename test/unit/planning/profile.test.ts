import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { native } from '../../../src/native/load.js';
import { estimate } from '../../../src/planning/estimate.js';
import { againstRoofline, profile } from '../../../src/planning/profile.js';
import { renderProfile } from '../../../src/planning/profile-page.js';
import { yaml } from '../../support/config.js';

const CONFIG = `
name: x
data:
  path: nowhere
  latent_shape: [16, 16, 16]
  text_shape: {clip_l: [8, 64], clip_g: [8, 64], t5: [8, 128]}
model: {depth: 2, hidden: 128}
batch: {global: 4, micro: 2}
`;

describe('the roofline', () => {
  const roofline = { flops: 100, bandwidth: 10 };
  const row = { name: 'op', count: 1, seconds: 4, flops: 200, bytes: 10 };

  test('bounds an operation by what takes longer', () => {
    // 2 s of matmuls, 1 s of memory.
    expect(againstRoofline(row, roofline, 8)).toMatchObject({ share: 0.5, ofRoofline: 0.5, bound: 'matmul' });
    const copying = againstRoofline({ ...row, flops: 0 }, roofline, 4);
    expect(copying).toMatchObject({ share: 1, ofRoofline: 0.25, bound: 'memory' });
  });
});

describe('a profile', () => {
  test('is of one thread where a run would share a slot', { timeout: 60_000 }, async () => {
    const config = loadConfig(yaml(`${CONFIG}threads_per_slot: 2\n`));
    const { seconds, ops } = await profile(native(), config, 1);
    expect(seconds).toBeGreaterThan(0);
    expect(ops.length).toBeGreaterThan(10);
  });

  test('accounts for the work and the time of a slot', { timeout: 60_000 }, async () => {
    const config = loadConfig(yaml(CONFIG));
    const result = await profile(native(), config, 2);
    const { levels, flopsPerStep } = await estimate(native(), config, 1, null);
    const sum = (key: 'seconds' | 'flops' | 'share') => result.ops.reduce((total, op) => total + op[key], 0);
    expect(sum('flops')).toBeCloseTo(levels[0]!.executedFlops / 2, -1);
    expect(result.modelFlops).toBeCloseTo(flopsPerStep / 2, -1);
    expect(sum('share')).toBeCloseTo(1, 10);
    expect(sum('seconds')).toBeCloseTo(result.seconds, 10);
    expect(result.seconds).toBeGreaterThan(0);
    // One thread of any machine that this runs on: 0.1 GF/s to 10 TF/s, and 0.1 to 1000 GB/s.
    expect(result.roofline.flops).toBeGreaterThan(1e8);
    expect(result.roofline.flops).toBeLessThan(1e13);
    expect(result.roofline.bandwidth).toBeGreaterThan(1e8);
    expect(result.roofline.bandwidth).toBeLessThan(1e12);
    // Not exact: the peak is measured before, and other processes share caches and clock.
    expect(result.utilization).toBeLessThan(3);
    const times = result.ops.map(({ seconds }) => seconds);
    expect(times).toEqual([...times].sort((a, b) => b - a));
    const page = renderProfile(result, 200);
    for (const { name } of result.ops) expect(page).toContain(`\n${name} `);
    expect(page).toMatch(/linear .* GF\/s .* GB\/s .* %/);
  });
});
