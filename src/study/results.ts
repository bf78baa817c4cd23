/** Reads the folder of a study, and computes what its report says. */

import { join } from 'node:path';
import { mean } from '../averages.js';
import { canonicalName } from '../objective/names.js';
import { type JournalLine, journalOf, type RunState, readStudy, runState, type StudyFile } from './folder.js';
import { readReference } from './prompts.js';
import { PUBLISHED_RANKS, PUBLISHED_SCORES } from './published.js';
import { type Compared, correlationOf, estimateOf, extremes, judge, measured, rank } from './ranking.js';
import {
  type FoundRun,
  GROUPS,
  type Group,
  type Measured,
  type Results,
  type RunResult,
  type Setting,
  type VariantResult,
} from './result-types.js';
import { scoresOf } from './score.js';
import { type Validation, validationsOf } from './validations.js';

/** Reads the folder of a study. */
export async function resultsOf(dir: string): Promise<{ results: Results; runs: FoundRun[] }> {
  const study = readStudy(dir);
  const { evaluation } = study;
  const journal = journalOf(dir);
  const runs = study.runs.map((listed): FoundRun => {
    const runDir = join(dir, listed.name);
    const scores = evaluation === null ? null : scoresOf(runDir, { config: listed.hash, evaluation });
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
  if (step !== null) return losses.find((one) => one.step === step) ?? null;
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
