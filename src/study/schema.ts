/** The file of a study: every key with its type, range, default and description. */
import { z } from 'zod';
import { GRID_KINDS } from '../objective/paths.js';
import { SOLVERS, type SolverName } from '../sampling/solvers.js';
import { PICTURE_KINDS } from '../shapes/kinds.js';

const text = () => z.string().min(1);
const whole = (low: number, high = Number.MAX_SAFE_INTEGER) => z.int().min(low).max(high);
const word = () =>
  z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_-]*$/)
    .meta({ title: 'a name of letters, digits, "_" and "-"' });

/** Keys of the configuration, dotted, and their values. */
const keys = () => z.record(z.string(), z.unknown()).meta({ title: 'a mapping of configuration keys' });

const dataSet = z.strictObject({
  path: text().describe('Folder of the data set, relative to the working directory.'),
  generate: z
    .strictObject({
      pictures: z
        .enum(PICTURE_KINDS)
        .default('scenes')
        .describe(
          'scenes = one to three objects, as `dataset shapes` makes them; photos = one in the centre, captioned "a photo of a red circle".',
        ),
      count: whole(1).describe('Number of pictures.'),
      seed: whole(0).default(0).describe('Seed of the pictures.'),
    })
    .nullable()
    .default(null)
    .describe('How `study run` makes the data set of the shapes world if it is missing; null = it exists.'),
});

const sampler = z.strictObject({
  steps: whole(1, 1000).describe('Steps of the solver.'),
  guidance: z.number().describe('Guidance scale; 1 = none.'),
  solver: z
    .enum(Object.keys(SOLVERS) as [SolverName, ...SolverName[]])
    .default('euler')
    .describe('Method of integration.'),
  schedule: z.enum(GRID_KINDS).default('uniform').describe('Noise levels of the steps.'),
});

const evaluation = z.strictObject({
  pictures: whole(2, 100_000)
    .default(96)
    .describe('Pictures at each setting: of the captions of as many new pictures of the data set.'),
  reference: whole(2, 1_000_000)
    .default(2000)
    .describe('New pictures of the data set that the Frechet distance compares with.'),
  weights: z
    .array(z.enum(['ema', 'master']))
    .min(1)
    .default(['ema', 'master'])
    .describe('Weights that are sampled.'),
  samplers: z
    .array(sampler)
    .min(1)
    .describe('How pictures are drawn. Each makes a setting with each weights.'),
  shown: whole(0, 100)
    .default(0)
    .describe(
      "The sampler, counted from 0, whose scores are in the report's table and whose pictures it shows, with the first of `weights`.",
    ),
  replicates: whole(1, 10_000).default(100).describe('Bootstrap resamples of the pictures, for intervals.'),
  seed: whole(0).default(0).describe('Seed of the initial noise, the same at all settings.'),
});

const changes = {
  set: keys().default({}).describe('Configuration keys of every run, such as `schedule.steps: 900`.'),
  seeds: z.array(whole(0)).min(1).default([0]).describe('One run of each variant for each seed.'),
};

export const studySchema = z.strictObject({
  name: word().describe('Name of the study; its folder is runs/NAME unless --dir says otherwise.'),
  config: text().describe('Configuration that all runs begin with, relative to this file.'),
  ...changes,
  data: z
    .record(word(), dataSet)
    .meta({ title: 'a mapping of names to data sets' })
    .describe('Data sets by name; each variant is trained on each.'),
  vary: z
    .record(z.string(), z.array(z.unknown()).min(1))
    .default({})
    .meta({ title: 'a mapping of configuration keys to lists' })
    .describe('Values of configuration keys; every combination is a variant, named by its values.'),
  variants: z
    .record(text(), keys())
    .default({})
    .meta({ title: 'a mapping of names to mappings of configuration keys' })
    .describe('Further variants by name: the configuration keys that make each.'),
  evaluation: evaluation
    .nullable()
    .default(null)
    .describe(
      'How trained models are scored, which takes data sets of the shapes world; null = by losses alone.',
    ),
  quick: z
    .strictObject({
      only: z.array(text()).min(1).nullable().default(null).describe('Variants; null = all.'),
      set: keys().default({}).describe('Further configuration keys.'),
      seeds: z.array(whole(0)).min(1).nullable().default(null).describe('Seeds; null = those of the study.'),
      pictures: whole(2, 100_000)
        .nullable()
        .default(null)
        .describe('Pictures at each setting; null = as many.'),
    })
    .nullable()
    .default(null)
    .describe('What --quick changes, for a first try of a study.'),
});

export type StudySpec = z.output<typeof studySchema>;
export type Evaluation = z.output<typeof evaluation>;
/** The evaluation as it is stored beside the results. */
export const evaluationSchema = evaluation;
