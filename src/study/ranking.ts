/** How variants compare: scores over seeds and resamples, ranks, and the paper's findings. */
import { mean } from '../averages.js';
import { canonicalName } from '../objective/names.js';
import { averageRanks, type Point, rankCorrelation } from './pareto.js';
import { CLAIMS, type Claimed } from './published.js';
import {
  type FoundRun,
  GROUPS,
  type Group,
  type Judgement,
  type Measured,
  type Results,
  type Setting,
  type VariantResult,
} from './result-types.js';
import type { Evaluation } from './schema.js';
import { centred, deviation, interval, RESAMPLED, resample } from './statistics.js';

/** A variant, and its scores at each setting with those of resamples. */
export interface Compared {
  result: VariantResult;
  estimates: Estimate[];
}

interface Estimate {
  followed: Measured;
  frechet: Measured;
  replicates: Point[];
}

export function measured(
  value: number,
  replicates: readonly number[],
  seeds: readonly number[] = [],
): Measured {
  return { mean: value, deviation: deviation(seeds), interval: interval(replicates) };
}

/** A variant's scores at a setting: the mean over seeds, and over resampled seeds of resampled pictures. */
export function estimateOf(runs: readonly FoundRun[], { data, weights, sampler }: Setting): Estimate {
  const seeds = runs.flatMap(({ listed, scores }) => {
    const found = scores?.settings.find((one) => one.weights === weights && one.sampler === sampler);
    return listed.data === data && found !== undefined ? [found] : [];
  });
  const count = Math.min(...seeds.map(({ replicates }) => replicates.length));
  const of = (key: keyof Point) => {
    const values = seeds.map((seed) => seed[key]);
    const moved = seeds.map((seed) => {
      const drawn = seed.replicates.map((one) => one[key]);
      // A share has no bias, and moved it could leave 0 to 1.
      return key === 'frechet' ? centred(drawn, seed[key]) : drawn;
    });
    const replicates = Array.from({ length: count }, (_, r) =>
      mean(resample(seeds.length, r, RESAMPLED.seeds).map((i) => moved[i]![r]!)),
    );
    return { value: measured(mean(values), replicates, values), replicates };
  };
  const [followed, frechet] = [of('followed'), of('frechet')];
  return {
    followed: followed.value,
    frechet: frechet.value,
    replicates: followed.replicates.map((value, r) => ({ followed: value, frechet: frechet.replicates[r]! })),
  };
}

export function extremes({ samplers }: Evaluation): NonNullable<Results['steps']> {
  const steps = samplers.map((sampler) => sampler.steps);
  return { fewest: Math.min(...steps), most: Math.max(...steps) };
}

type Ranks = Record<Group, number[]>;

/** Average ranks of the variants that have scores, and the same for every resample. */
export function rank(
  variants: readonly Compared[],
  settings: readonly Setting[],
  evaluation: Evaluation | null,
  steps: Results['steps'],
): { value: Ranks; replicates: Ranks[] } {
  const within = (group: Group) =>
    settings.flatMap(({ sampler }, i) =>
      group === 'all' || evaluation!.samplers[sampler]!.steps === steps![group] ? [i] : [],
    );
  const chosen = GROUPS.map((group) => [group, within(group)] as const);
  const ranksOf = (point: (estimate: Estimate) => Point) =>
    Object.fromEntries(
      chosen.map(([group, indices]) => [
        group,
        averageRanks(indices.map((i) => variants.map(({ estimates }) => point(estimates[i]!)))),
      ]),
    ) as Ranks;
  const counts = variants.flatMap(({ estimates }) => estimates.map(({ replicates }) => replicates.length));
  const count = counts.length === 0 ? 0 : Math.min(...counts);
  return {
    value: ranksOf(({ followed, frechet }) => ({ followed: followed.mean, frechet: frechet.mean })),
    replicates: Array.from({ length: count }, (_, r) => ranksOf(({ replicates }) => replicates[r]!)),
  };
}

export function correlationOf(
  variants: readonly Compared[],
  ranks: ReturnType<typeof rank>,
): Results['correlation'] {
  const both = variants.flatMap(({ result }, i) => {
    const published = result.published.ranks?.all;
    return published === undefined ? [] : [{ i, published }];
  });
  if (both.length < 3) return null;
  const of = ({ all }: Ranks) =>
    rankCorrelation(
      both.map(({ i }) => all[i]!),
      both.map(({ published }) => published),
    );
  const value = of(ranks.value);
  const replicates = ranks.replicates.flatMap((one) => of(one) ?? []);
  return value === null ? null : { ...measured(value, replicates), variants: both.length };
}

/** In how many resamples each claim of the paper holds. */
export function judge(
  variants: readonly Compared[],
  ranks: ReturnType<typeof rank>,
  settings: readonly Setting[],
  evaluation: Evaluation | null,
  steps: Results['steps'],
): Judgement[] {
  const placeOf = (formulation: string) =>
    variants.findIndex(({ result }) => canonicalName(result.formulation) === formulation);
  const highest = Math.max(...(evaluation?.samplers ?? []).map(({ guidance }) => guidance));
  const indices = (wanted: number) =>
    settings.flatMap(({ sampler }, i) => {
      const { steps: own, guidance } = evaluation!.samplers[sampler]!;
      return own === wanted && guidance === highest ? [i] : [];
    });
  return CLAIMS.map(({ text, needs, holds }) => {
    if (steps === null || needs.some((name) => placeOf(name) < 0)) return { claim: text, share: null };
    const held = ranks.replicates.map((one, r) => {
      const found: Claimed = {
        rank: (name) => one.all[placeOf(name)]!,
        degradation: (name) => {
          const { estimates } = variants[placeOf(name)]!;
          const distance = (wanted: number) =>
            mean(indices(wanted).map((i) => estimates[i]!.replicates[r]!.frechet));
          return distance(steps.fewest) / distance(steps.most);
        },
      };
      return Number(holds(found));
    });
    return { claim: text, share: held.length === 0 ? null : mean(held) };
  });
}
