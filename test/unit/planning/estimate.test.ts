import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { officialTensors } from '../../../src/model/backbones.js';
import { RELEASED } from '../../../src/model/released.js';
import type { NativeAddon } from '../../../src/native/contract.js';
import { native } from '../../../src/native/load.js';
import { type Estimate, estimate } from '../../../src/planning/estimate.js';
import { renderEstimate } from '../../../src/planning/estimate-page.js';
import { gradientBuffers } from '../../../src/planning/memory.js';
import { assignSlots } from '../../../src/step/assignment.js';
import { yaml } from '../../support/config.js';

describe('the configurations of released models', () => {
  // No array of these sizes is allocated: the largest would take hundreds of gigabytes.
  test.each([
    ['sd3-medium', 'SD3-medium', 491, 2_028_328_000, 2_084_951_104],
    ['sd3.5-medium', 'SD3.5-medium', 665, 2_243_171_520, 2_469_663_936],
    ['sd3.5-large', 'SD3.5-large', 923, 8_056_627_520, 8_146_280_768],
  ])('%s builds exactly the official tensors', async (file, name, tensors, parameters, withPositions) => {
    const config = loadConfig(`configs/${file}.yaml`, [], {});
    const result = await estimate(native(), config, 1, null);
    expect(result.spec.model).toEqual(RELEASED[name]);
    expect(officialTensors(result.spec.model)).toHaveLength(tensors);
    expect(result.parameters + result.positions).toBe(withPositions);
    // As the engine itself counts them.
    expect(result.parameters).toBe(parameters);
    expect(result.positions).toBe(withPositions - parameters);
    expect(process.memoryUsage.rss()).toBeLessThan(2e9);
  });
});

describe('gradients that are alive at once', () => {
  // One thread holds a left half for each level of the tree, and the slot at work.
  test.each([
    [1, 1, 1],
    [2, 1, 2],
    [8, 1, 4],
    [1024, 1, 11],
    [8, 8, 8],
    [5, 1, 3],
  ])('%i slots and %i threads: %i', (slots, threads, expected) => {
    expect(gradientBuffers({ lo: 0, hi: slots }, slots, threads)).toBe(expected);
  });

  test('are never fewer than the parts that a worker exchanges, nor more than its slots', () => {
    for (const ranges of [assignSlots(13, 4), assignSlots(64, 3), assignSlots(7, 7)]) {
      const total = ranges.at(-1)!.hi;
      for (const range of ranges) {
        const buffers = gradientBuffers(range, total, 2);
        expect(buffers).toBeGreaterThanOrEqual(1);
        expect(buffers).toBeLessThanOrEqual(range.hi - range.lo);
      }
    }
  });
});

const SHAPES = `
name: x
data:
  path: nowhere/to/be/found
  latent_shape: [16, 32, 32]
  text_shape: {clip_l: [77, 64], clip_g: [77, 96], t5: [77, 256]}
model: {depth: 4, hidden: 256, pos_embed_max_size: 32}
batch: {global: 8, micro: 2}
`;

const RATES = { flops: 4e11, bandwidth: 4e10 };

describe('an estimate', () => {
  test('follows the formula of the work, and the levels their order', async () => {
    const { flopsPerStep, levels, spec } = await estimate(native(), loadConfig(yaml(SHAPES)), 1, null);
    // d (24 h^2 S + 4 h S^2 + 24 h^2), S = N + M, without the last block's text side, which has neither
    // projection nor MLP (18 h^2 M) nor queries (4 h S M); embedders aside.
    const [d, h, n, m] = [4, 256, 256, 154];
    const s = n + m;
    const forward = d * (24 * h * h * s + 4 * h * s * s + 24 * h * h) - 18 * h * h * m - 4 * h * s * m;
    expect(spec.contextTokens).toBe(m);
    expect(flopsPerStep / (3 * 8 * forward)).toBeGreaterThan(1);
    expect(flopsPerStep / (3 * 8 * forward)).toBeLessThan(1.03);
    const descending = levels.map(({ activationBytes }) => activationBytes);
    expect([...descending].sort((a, b) => b - a)).toEqual(descending);
    expect(levels[3]!.executedFlops / levels[0]!.executedFlops).toBeGreaterThan(1.2);
    expect(levels[3]!.executedFlops / levels[0]!.executedFlops).toBeLessThan(1.34);
  });

  test('gives times that shrink with the rates, and a page', async () => {
    const config = loadConfig(yaml(SHAPES));
    const one = await estimate(native(), config, 1, RATES);
    const fast = await estimate(native(), config, 1, { flops: 8e11, bandwidth: 8e10 });
    const two = await estimate(native(), config, 2, RATES);
    const total = ({ levels }: typeof one) => levels[0]!.time!.total;
    expect(total(one) / total(fast)).toBeCloseTo(2, 10);
    expect(total(one) / total(two)).toBeGreaterThan(1.4);
    expect(total(one)).toBeGreaterThan(one.flopsPerStep / RATES.flops);
    const page = renderEstimate(one, config, RATES);
    expect(page).toContain('latents 16 x 32 x 32, 256 + 154 tokens (from the configuration)');
    expect(page).toContain('time at 400 GFLOP/s and 40.0 GB/s a worker');
  });

  test('a slot of more micro-batches is as much work, in fewer gradients', async () => {
    const load = (batch: string) => loadConfig(yaml(SHAPES), [`batch=${batch}`]);
    const gradients = ({ memory }: Estimate) => memory.find(({ name }) => name.startsWith('gradients'));
    const one = await estimate(native(), load('{global: 16, micro: 2}'), 1, RATES);
    const { length } = native().planFigures(one.spec);
    const four = await estimate(native(), load('{global: 16, micro: 2, accumulate: 4}'), 1, RATES);
    const eight = await estimate(native(), load('{global: 16, micro: 2, accumulate: 8}'), 1, RATES);
    expect([one.slots, four.slots, eight.slots]).toEqual([8, 2, 1]);
    expect([one, four, eight].map(({ flopsPerStep }) => flopsPerStep)).toEqual(
      Array(3).fill(one.flopsPerStep),
    );
    expect(eight.levels[0]!.executedFlops).toBe(one.levels[0]!.executedFlops);
    expect(gradients(eight)).toEqual({ name: 'gradients, 1 x fp32', bytes: 4 * length });
    expect(gradients(one)!.bytes).toBeGreaterThan(gradients(four)!.bytes);
    const [few, many] = [eight.levels[0]!.time!, one.levels[0]!.time!];
    expect(few.matmuls).toBe(many.matmuls);
    // Seven sums of gradients less, of 12 bytes an element.
    expect(many.memoryBound - few.memoryBound).toBeCloseTo((7 * 12 * length) / RATES.bandwidth, 9);
    expect(renderEstimate(four, load('{global: 16, micro: 2, accumulate: 4}'), RATES)).toContain(
      '16 samples = 2 slots x 4 micro-batches x 2; 1 worker',
    );
  });

  test('counts the moments that the optimizer keeps, in memory and in bytes of the update', async () => {
    const config = loadConfig(yaml(SHAPES));
    const addon = (moments: string[]): NativeAddon => ({
      ...native(),
      planFigures: (spec) => ({ ...native().planFigures(spec), moments }),
    });
    const of = async (moments: string[]) => await estimate(addon(moments), config, 1, RATES);
    const [one, two] = [await of(['first']), await of(['m', 'v'])];
    expect(await estimate(native(), config, 1, RATES)).toEqual(two);
    const array = 4 * native().planFigures(one.spec).length;
    const bytes = ({ memory }: typeof one, part: string) => memory.find(({ name }) => name === part)?.bytes;
    expect(bytes(one, 'optimizer, first')).toBe(array);
    expect(bytes(two, 'optimizer, m and v')).toBe(2 * array);
    expect(bytes(two, 'copy for checkpoints')! - bytes(one, 'copy for checkpoints')!).toBe(array);
    const update = ({ levels }: typeof one) => levels[0]!.time!.update;
    expect(update(two) - update(one)).toBeCloseTo((2 * array) / RATES.bandwidth, 10);
  });

  test('needs shapes from somewhere', async () => {
    const config = loadConfig(yaml('name: x\ndata: {path: nowhere/to/be/found}\n'));
    await expect(estimate(native(), config, 1, null)).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      message: expect.stringMatching(/data\.latent_shape, data\.text_shape: .*nowhere\/to\/be\/found/),
    });
  });
});
