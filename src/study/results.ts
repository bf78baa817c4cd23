/** What the runs of a study have come to, as numbers: the report's JSON. */
import { join } from 'node:path';
import { canonicalName } from '../objective/names.js';
import {
  type JournalLine,
  journalOf,
  type ListedRun,
  type RunState,
  readStudy,
  runState,
  type StudyFile,
} from './folder.js';
import { averageRanks, type Point, rankCorrelation } from './pareto.js';
import { type Reference, readReference } from './prompts.js';
import {
  CLAIMS,
  type Claimed,
  PUBLISHED_RANKS,
  PUBLISHED_SCORES,
  type PublishedRanks,
  type PublishedScores,
} from './published.js';
import type { Evaluation } from './schema.js';
import { type Scores, scoresHash, scoresOf } from './score.js';
import { centred, deviation, type Interval, interval, mean, RESAMPLED, resample } from './statistics.js';
import { type Validation, validationsOf } from './validations.js';

/** A number of several seeds. */
export interface Measured {
  mean: number;
  /** Over seeds; null for one. */
  deviation: number | null;
  /** Of the mean, from resampled pictures and seeds; null without resamples. */
  interval: Interval | null;
}

export interface Setting {
  data: string;
  weights: 'ema' | 'master';
  /** Index in `evaluation.samplers`. */
  sampler: number;
}

export interface SettingResult extends Setting {
  followed: Measured;
  frechet: Measured;
}

export interface RunResult {
  name: string;
  data: string;
  seed: number;
  state: RunState | 'failed';
  error: string | null;
  /** The step of the lowest validation loss of the EMA, and the losses there; null before a validation. */
  best: { step: number; loss: number; epsilonError: number | null } | null;
  trainingSeconds: number;
  scoringSeconds: number;
}

/** Average ranks over groups of settings. */
export const GROUPS = ['all', 'fewest', 'most'] as const;
export type Group = (typeof GROUPS)[number];

export interface VariantResult {
  name: string;
  formulation: string;
  /** What it is drawn and compared as: the form of its formulation, where these differ within the study. */
  family: string;
  runs: RunResult[];
  /** By data set, at the best step: the validation loss, and the error of the noise estimate. */
  losses: Record<string, { loss: Measured; epsilonError: Measured | null }>;
  /** Empty unless there are scores of every data set. */
  settings: SettingResult[];
  ranks: Record<Group, Measured> | null;
  published: { ranks: PublishedRanks | null; scores: PublishedScores | null };
}

export interface Judgement {
  claim: string;
  /** Share of resamples in which it holds; null if a formulation is missing. */
  share: number | null;
}

export interface Results {
  name: string;
  command: string;
  evaluation: Evaluation | null;
  data: string[];
  seeds: number[];
  variants: VariantResult[];
  /** Scores of real pictures, by data set. */
  real: Record<string, Reference['real']>;
  /** Arithmetic and instruction sets of the runs. */
  versions: string[];
  /** Steps of the groups `fewest` and `most`. */
  steps: { fewest: number; most: number } | null;
  /** Spearman's correlation of the ranks with the published ones, over the variants that have both. */
  correlation: (Measured & { variants: number }) | null;
  claims: Judgement[];
  /** Core seconds of all runs. */
  coreSeconds: number;
}

/** Everything that is known of a run, for results and figures. */
export interface FoundRun {
  listed: ListedRun;
  validations: Validation[];
  scores: Scores | null;
}

/** Reads the folder of a study. */
export async function resultsOf(dir: string): Promise<{ results: Results; runs: FoundRun[] }> {
  const study = readStudy(dir);
  const { evaluation } = study;
  const journal = journalOf(dir);
  const runs = study.runs.map((listed): FoundRun => {
    const runDir = join(dir, listed.name);
    const scores = evaluation === null ? null : scoresOf(runDir, scoresHash(listed.hash, evaluation));
    return { listed, validations: validationsOf(runDir), scores };
  });
  const states = new Map<string, RunState>();
  for (const { listed } of runs) states.set(listed.name, await runState(dir, listed, evaluation));
  const data = [...new Set(study.runs.map((run) => run.data))];
  const real = Object.fromEntries(
    data.flatMap((name) => {
      const reference = evaluation === null ? null : readReference(dir, name);
      return reference === null ? [] : [[name, reference.real]];
    }),
  );
  return { results: { ...compare(study, runs, states, journal, data), real }, runs };
}

function compare(
  { name, command, evaluation, runs: listed }: StudyFile,
  runs: readonly FoundRun[],
  states: ReadonlyMap<string, RunState>,
  journal: readonly JournalLine[],
  data: string[],
): Omit<Results, 'real'> {
  const names = [...new Set(listed.map(({ variant }) => variant))];
  const several = new Set(listed.map(({ formulation }) => formulation)).size > 1;
  const settings: Setting[] = (evaluation?.weights ?? []).flatMap((weights) =>
    data.flatMap((one) => evaluation!.samplers.map((_, sampler) => ({ data: one, weights, sampler }))),
  );
  const variants = names.map((variant): Compared => {
    const own = runs.filter((run) => run.listed.variant === variant);
    const { formulation } = own[0]!.listed;
    const complete = data.every((one) => own.some((run) => run.listed.data === one && run.scores !== null));
    const estimates = complete ? settings.map((setting) => estimateOf(own, setting)) : [];
    const published = canonicalName(formulation);
    return {
      estimates,
      result: {
        ...{ name: variant, formulation },
        family: several ? formulation.replace(/\(.*/, '') : variant,
        runs: own.map((run) => runResult(run, states.get(run.listed.name)!, journal)),
        losses: lossesOf(own, data),
        settings: estimates.map(({ followed, frechet }, i) => ({ ...settings[i]!, followed, frechet })),
        ranks: null,
        published: {
          ranks: several ? (PUBLISHED_RANKS[published] ?? null) : null,
          scores: several ? (PUBLISHED_SCORES[published] ?? null) : null,
        },
      },
    };
  });
  const ranked = variants.filter(({ estimates }) => estimates.length > 0);
  const steps = evaluation === null ? null : extremes(evaluation);
  const ranks = rank(ranked, settings, evaluation, steps);
  ranked.forEach(({ result }, i) => {
    result.ranks = Object.fromEntries(
      GROUPS.map((group) => [
        group,
        measured(
          ranks.value[group][i]!,
          ranks.replicates.map((r) => r[group][i]!),
        ),
      ]),
    ) as Record<Group, Measured>;
  });
  const versions = runs.flatMap(({ scores }) =>
    scores === null
      ? []
      : [
          Object.entries(scores.versions)
            .map(([key, value]) => `${key} ${value}`)
            .join(', '),
        ],
  );
  return {
    ...{ name, command, evaluation, data, steps },
    seeds: [...new Set(listed.map(({ seed }) => seed))],
    variants: variants.map(({ result }) => result),
    versions: [...new Set(versions)],
    correlation: correlationOf(ranked, ranks),
    claims: several ? judge(ranked, ranks, settings, evaluation, steps) : [],
    coreSeconds: journal.reduce((sum, { seconds, threads }) => sum + seconds * threads, 0),
  };
}

/** A variant, and its scores at each setting with those of resamples. */
interface Compared {
  result: VariantResult;
  estimates: Estimate[];
}

interface Estimate {
  followed: Measured;
  frechet: Measured;
  replicates: Point[];
}

function measured(value: number, replicates: readonly number[], seeds: readonly number[] = []): Measured {
  return { mean: value, deviation: deviation(seeds), interval: interval(replicates) };
}

/** A variant's scores at a setting: the mean over seeds, and over resampled seeds of resampled pictures. */
function estimateOf(runs: readonly FoundRun[], { data, weights, sampler }: Setting): Estimate {
  const seeds = runs.flatMap(({ listed, scores }) => {
    const found = scores?.settings.find((one) => one.weights === weights && one.sampler === sampler);
    return listed.data === data && found !== undefined ? [found] : [];
  });
  const count = Math.min(...seeds.map(({ replicates }) => replicates.length));
  const of = (key: keyof Point) => {
    const values = seeds.map((seed) => seed[key]);
    const moved = seeds.map((seed) =>
      centred(
        seed.replicates.map((one) => one[key]),
        seed[key],
      ),
    );
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

function extremes({ samplers }: Evaluation): NonNullable<Results['steps']> {
  const steps = samplers.map((sampler) => sampler.steps);
  return { fewest: Math.min(...steps), most: Math.max(...steps) };
}

type Ranks = Record<Group, number[]>;

/** Average ranks of the variants that have scores, and the same for every resample. */
function rank(
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

function correlationOf(
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
function judge(
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

function runResult(
  { listed: { name, data, seed }, validations, scores }: FoundRun,
  state: RunState,
  journal: readonly JournalLine[],
): RunResult {
  const own = journal.filter((line) => line.run === name);
  const last = own.at(-1);
  const failed = last?.event === 'failed' && state !== 'scored';
  const spent = (part: JournalLine['part']) =>
    own
      .filter((line) => line.part === part)
      .reduce((sum, { seconds, threads }) => sum + seconds * threads, 0);
  return {
    ...{ name, data, seed, state: failed ? 'failed' : state, error: failed ? (last.error ?? null) : null },
    best: bestOf(validations, scores?.step ?? null),
    trainingSeconds: spent('training'),
    scoringSeconds: spent('scoring'),
  };
}

/** The losses of the EMA at a step; without one, where they are lowest. */
function bestOf(validations: readonly Validation[], step: number | null): RunResult['best'] {
  const losses = validations.flatMap((one) => {
    const found = one.ema ?? one.master;
    if (found === undefined) return [];
    const errors = Object.values(found.epsilon_error);
    return [{ step: one.step, loss: found.mean, epsilonError: errors.length === 0 ? null : mean(errors) }];
  });
  const scored = losses.find((one) => one.step === step);
  if (scored !== undefined) return scored;
  return losses.length === 0 ? null : losses.reduce((best, one) => (one.loss < best.loss ? one : best));
}

function lossesOf(runs: readonly FoundRun[], data: readonly string[]): VariantResult['losses'] {
  return Object.fromEntries(
    data.flatMap((name) => {
      const best = runs
        .filter(({ listed }) => listed.data === name)
        .flatMap(({ validations, scores }) => bestOf(validations, scores?.step ?? null) ?? []);
      if (best.length === 0) return [];
      const of = (values: number[]): Measured => ({ ...measured(mean(values), [], values) });
      const errors = best.flatMap(({ epsilonError }) => epsilonError ?? []);
      const losses = {
        loss: of(best.map(({ loss }) => loss)),
        epsilonError: errors.length === best.length ? of(errors) : null,
      };
      return [[name, losses]];
    }),
  );
}
