/** What the runs of a study come to: the report's JSON. */
import type { ListedRun, RunState } from './folder.js';
import type { Reference } from './prompts.js';
import type { PublishedRanks, PublishedScores } from './published.js';
import type { Evaluation } from './schema.js';
import type { Scores } from './score.js';
import type { Interval } from './statistics.js';
import type { Validation } from './validations.js';

/** A number of several seeds. */
export interface Measured {
  mean: number;
  /** Over seeds; null for one. */
  deviation: number | null;
  /** The interval of the mean, from resampled pictures and seeds; null without resamples. */
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

/** What the report was written on, and when. */
export interface Occasion {
  /** "2026-11-26" */
  date: string;
  /** "AMD EPYC, 2 processors, avx512bf16" */
  hardware: string;
}
