import { describe, expect, test } from 'vitest';
import { readCoefficient } from '../../../src/objective/coefficients.js';
import { objectiveOf } from '../../../src/objective/objective.js';
import { firstSegment, SamplePlan } from '../../../src/step/plan.js';
import { DROP, isEpsilonError, SlotBatches, type SlotConfig } from '../../../src/step/slot.js';

const HASH = '7'.repeat(64);
const plan = new SamplePlan([firstSegment(HASH, 5000, 50, 3)]);

const config: SlotConfig = {
  seed: 3,
  data: {
    synthetic_captions: 0.5,
    drop: { clip_l: 0.463, clip_g: 0.2, t5: 0.7 },
  },
  batch: { global: 64, micro: 16, accumulate: 1 },
  validation: { every: 10, bins: 8, weights: ['ema'] },
};

const batches = (c = config, hasSynthetic = true, shift = 1, p = plan) =>
  new SlotBatches(c, objectiveOf({ formulation: 'rf/lognorm(0,1)', shift }), p, hasSynthetic);
const slots = (steps: number, hasSynthetic = true, c = config) =>
  Array.from({ length: steps * 4 }, (_, i) =>
    batches(c, hasSynthetic).training(1 + Math.floor(i / 4), i % 4),
  );

describe('training', () => {
  test('is a function of the counters: any order, any process, the same draws', () => {
    const all = slots(3);
    const again = batches({ ...config }, true, 1, new SamplePlan([firstSegment(HASH, 5000, 50, 3)])).training(
      2,
      3,
    );
    expect(again).toEqual(all[7]);
    expect([...again.rows]).toEqual([...plan.samples(2, 64, 48, 16).rows]);
  });

  test('draws differ for each step, sample and seed', () => {
    const times = slots(50).flatMap(({ levels }) => [...levels]);
    expect(new Set(times).size).toBe(times.length);
    const other = batches({ ...config, seed: 4 }).training(1, 0);
    expect(other.rows).toEqual(batches().training(1, 0).rows);
    expect(other.levels).not.toEqual(batches().training(1, 0).levels);
  });

  test('gives a row the same draws in whichever slot it stands', () => {
    const wide = batches({ ...config, batch: { global: 64, micro: 64, accumulate: 1 } }).training(5, 0);
    const narrow = [0, 1, 2, 3].map((slot) => batches().training(5, slot));
    expect([...wide.levels]).toEqual(narrow.flatMap(({ levels }) => [...levels]));
    expect([...wide.dropped]).toEqual(narrow.flatMap(({ dropped }) => [...dropped]));
    expect([...wide.synthetic]).toEqual(narrow.flatMap(({ synthetic }) => [...synthetic]));
    expect([...wide.coefficients]).toEqual(narrow.flatMap(({ coefficients }) => [...coefficients]));
  });

  test('a slot has the samples of its micro-batches, one after another; a validation is of micro-batches', () => {
    const of = (batch: SlotConfig['batch']) => batches({ ...config, batch });
    const accumulated = of({ global: 64, micro: 16, accumulate: 2 });
    expect(accumulated.training(5, 1)).toEqual({
      ...of({ global: 64, micro: 32, accumulate: 1 }).training(5, 1),
    });
    expect(accumulated.validation()).toEqual(batches().validation());
  });

  test('writes the coefficients of rectified flow, the timestep unrounded', () => {
    const { levels: times, coefficients } = batches().training(9, 1);
    times.forEach((t, i) => {
      expect([...coefficients.slice(6 * i, 6 * i + 6)]).toEqual(
        [1 - t, t, -1, 1, 1, 1000 * t].map(Math.fround),
      );
    });
    expect([...coefficients].some((c, i) => i % 6 === 5 && c !== Math.round(c))).toBe(true);
  });

  test('shifts t', () => {
    const plain = batches().training(1, 0).levels;
    const shifted = batches(config, true, 3).training(1, 0).levels;
    plain.forEach((t, i) => {
      expect(shifted[i]).toBeCloseTo((3 * t) / (1 + 2 * t), 12);
    });
  });

  test('drops each encoder on its own, with its own probability', () => {
    const dropped = slots(300).flatMap((slot) => [...slot.dropped]);
    const n = dropped.length;
    const share = (mask: number) => dropped.filter((d) => (d & mask) === mask).length / n;
    const close = (measured: number, p: number) =>
      expect(Math.abs(measured - p)).toBeLessThan(4 * Math.sqrt((p * (1 - p)) / n));
    const { clip_l, clip_g, t5 } = config.data.drop;
    close(share(DROP.clip_l), clip_l);
    close(share(DROP.clip_g), clip_g);
    close(share(DROP.t5), t5);
    close(share(DROP.clip_l | DROP.clip_g), clip_l * clip_g);
    close(share(DROP.clip_l | DROP.t5), clip_l * t5);
    close(share(DROP.clip_l | DROP.clip_g | DROP.t5), clip_l * clip_g * t5);
  });

  test('drops never at 0 and always at 1', () => {
    const data = { ...config.data, drop: { clip_l: 0, clip_g: 1, t5: 0 } };
    const dropped = slots(20, true, { ...config, data }).flatMap((slot) => [...slot.dropped]);
    expect(new Set(dropped)).toEqual(new Set([DROP.clip_g]));
  });

  test('mixes captions by probability, and only where there are synthetic ones', () => {
    const share = (has: boolean, p: number) => {
      const data = { ...config.data, synthetic_captions: p };
      const all = slots(100, has, { ...config, data }).flatMap((slot) => [...slot.synthetic]);
      return all.reduce((a, b) => a + b, 0) / all.length;
    };
    expect(Math.abs(share(true, 0.5) - 0.5)).toBeLessThan(4 * Math.sqrt(0.25 / 6400));
    expect(Math.abs(share(true, 0.1) - 0.1)).toBeLessThan(4 * Math.sqrt(0.09 / 6400));
    expect(share(true, 0)).toBe(0);
    expect(share(true, 1)).toBe(1);
    expect(share(false, 1)).toBe(0);
  });

  test('draws t, captions and drop-out independently', () => {
    const all = slots(200);
    const times = all.flatMap((s) => [...s.levels]);
    const synthetic = all.flatMap((s) => [...s.synthetic]);
    const dropL = all.flatMap((s) => [...s.dropped].map((d) => d & 1));
    const correlation = (a: number[], b: number[]) => {
      const mean = (x: number[]) => x.reduce((p, q) => p + q, 0) / x.length;
      const [ma, mb] = [mean(a), mean(b)];
      const cov = (x: number[], mx: number, y: number[], my: number) =>
        x.reduce((s, v, i) => s + (v - mx) * (y[i]! - my), 0);
      return cov(a, ma, b, mb) / Math.sqrt(cov(a, ma, a, ma) * cov(b, mb, b, mb));
    };
    const bound = 4 / Math.sqrt(times.length);
    expect(Math.abs(correlation(times, synthetic))).toBeLessThan(bound);
    expect(Math.abs(correlation(times, dropL))).toBeLessThan(bound);
    expect(Math.abs(correlation(synthetic, dropL))).toBeLessThan(bound);
  });
});

describe('validation', () => {
  test('shows each held-out row once in each bin and at each log-SNR, with nothing dropped', () => {
    const all = batches().validation();
    expect(all.length).toBe((8 + 8) * Math.ceil(50 / 16));
    const names = [...new Set(all.map(({ name }) => name))];
    expect(names).toHaveLength(16);
    expect(names.map(isEpsilonError)).toEqual([...Array(8).fill(false), ...Array(8).fill(true)]);
    for (const [i, name] of names.entries()) {
      const mine = all.filter((slot) => slot.name === name);
      expect(mine.flatMap(({ rows, count }) => [...rows.slice(0, count)])).toEqual([...plan.validation]);
      for (const { scale, coefficients, dropped, rows } of mine) {
        const t = readCoefficient(coefficients, 0, 'b');
        if (i < 8) {
          expect(name).toBe(`t=${((i + 0.5) / 8).toFixed(4)}`);
          expect([t, scale]).toEqual([Math.fround((i + 0.5) / 8), 1]);
        } else {
          expect(name).toBe(`log_snr=${1.5 * (i - 8) - 5.25}`);
          expect(2 * Math.log((1 - t) / t)).toBeCloseTo(1.5 * (i - 8) - 5.25, 5);
          // The velocity's error is that of eps over 1 - t.
          expect(scale).toBeCloseTo((1 - t) ** 2, 6);
        }
        expect(readCoefficient(coefficients, 0, 'timestep')).toBeCloseTo(1000 * t, 3);
        expect(new Set(dropped)).toEqual(new Set([0]));
        expect(rows.length).toBe(16);
      }
    }
    const ids = all.flatMap(({ sampleIds, count }) => [...sampleIds.slice(0, count)]);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('has the same noise at a log-SNR for every formulation, and any number of bins', () => {
    const noises = (formulation: string, bins: number) =>
      new SlotBatches(
        { ...config, validation: { ...config.validation, bins } },
        objectiveOf({ formulation, shift: 1 }),
        plan,
        true,
      )
        .validation()
        .filter(({ name }) => isEpsilonError(name))
        .map(({ name, sampleIds }) => [name, ...sampleIds]);
    expect(noises('edm(0,0.6)', 5)).toEqual(noises('rf', 8));
    expect(noises('eps/linear', 5)).toEqual(noises('rf', 8));
  });

  test('is the same at every time, and empty without held-out rows', () => {
    expect(batches().validation()).toEqual(batches().validation());
    expect(batches(config, true, 1, new SamplePlan([firstSegment(HASH, 100, 0, 3)])).validation()).toEqual(
      [],
    );
  });
});
