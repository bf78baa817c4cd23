/** `orchestrator sample`: draws pictures of prompts, or latents for rows of a data set. */

import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { loadConfig } from '../../config/load.js';
import { storedConfig } from '../../config/resume.js';
import { describeDataset } from '../../data/dataset.js';
import { conditioningOf } from '../../data/features.js';
import { CAPTION_KINDS, type CaptionKind } from '../../data/manifest.js';
import type { DataConfig } from '../../data/roles.js';
import { drawLatents, objectiveIn } from '../../engine/draw.js';
import { locateWeights, openLocated, type WeightsSource } from '../../engine/inference.js';
import { OrchestratorError } from '../../errors.js';
import { readFailure } from '../../files/io.js';
import { statedTraining } from '../../model/scheduler.js';
import { withWeights } from '../../model/weights.js';
import type { ObjectiveConfig } from '../../objective/objective.js';
import type { Conditioning } from '../../sampling/conditioning.js';
import { isShapesWorld, LATENT } from '../../shapes/model.js';
import {
  latentSides,
  picturePath,
  positiveInteger,
  repeatCount,
  rowNumbers,
  samplesPath,
} from '../arguments.js';
import { type Places, requirePlaces, writeDrawn } from '../drawn-files.js';
import { choiceOption, WEIGHTS_ALONE } from '../options.js';
import { printFields } from '../output.js';
import {
  CHECKPOINT,
  drawSettings,
  type SamplerOptions,
  samplerOptions,
  withModel,
  withShapesModel,
} from '../sampler-options.js';

interface Options extends SamplerOptions, Places {
  prompt: string[];
  prompts?: string;
  rows?: number[];
  data?: string;
  config?: string;
  caption: CaptionKind;
  size?: [number, number];
  repeat: number;
}

export function register(program: Command): void {
  const command = program
    .command('sample')
    .description(
      'draw pictures of prompts with a model of the demo data (the shapes world), or latents for rows of any data set',
    )
    .addOption(
      new Option('--prompt <text...>', 'what to draw (shapes world); accepts several').default([], 'none'),
    )
    .option(
      '--prompts <file>',
      'text file with one prompt per line; empty lines and lines that start with # are skipped',
    )
    .option('--rows <list>', 'draw for the text features of these rows, such as 0,1,2 or 0-7', rowNumbers)
    .option('--data <dir>', "data set of the rows (default: the training run's)")
    .option(
      '--config <file>',
      "configuration that names the data set's columns (default: the training run's)",
    )
    .addOption(choiceOption('--caption <kind>', 'caption of the rows', CAPTION_KINDS))
    .option(
      '--size <height>x<width>',
      "sides of the latents (default: the training run's, or the data set's)",
      latentSides,
    )
    .option('--repeat <n>', 'pictures per prompt or row', repeatCount, 1)
    .option('--columns <n>', 'pictures per row of the grid', positiveInteger)
    .requiredOption(
      '--out <file>',
      'what to write: a grid of pictures (.png, .jpg or .webp), or the latents (.safetensors)',
      samplesPath,
    )
    .option('--preview <file>', 'also write a grid of pictures, where --out takes the latents', picturePath)
    .option(
      '--each <dir>',
      'also write each picture as a file of its own into this folder, which is new or empty: 0000.png, 0001.png, ..., and prompts.jsonl, which says what each shows',
    )
    .option('--json', 'print as JSON what was written');
  samplerOptions(command, {
    seed: 'seed of the initial noise',
    checkpoint: `${CHECKPOINT}; with --rows also weights alone: ${WEIGHTS_ALONE}`,
  }).action(sample);
}

async function sample(options: Options): Promise<void> {
  const prompts = [...options.prompt, ...(options.prompts === undefined ? [] : readPrompts(options.prompts))];
  const { rows } = options;
  requirePlaces(options);
  if (rows !== undefined && prompts.length > 0) {
    throw new OrchestratorError('ERR_USAGE', 'Give either prompts or --rows');
  }
  if (rows !== undefined) return await sampleRows(rows, options);
  const forRows = (['data', 'config', 'size'] as const).find((name) => options[name] !== undefined);
  if (forRows !== undefined) {
    throw new OrchestratorError('ERR_USAGE', `--${forRows} needs the rows to draw for: --rows 0,1,2`);
  }
  if (prompts.length === 0) {
    throw new OrchestratorError(
      'ERR_USAGE',
      'Nothing to draw: give --prompt TEXT or --prompts FILE; for a model that is not of the shapes world, --rows',
    );
  }
  await withShapesModel(options, async (model, settings) => {
    const { shift, steps, guidance } = settings;
    printFields(`${model.path} | step ${model.step} | ${model.formulation} | shift ${shift}`, process.stderr);
    const labels = repeated(prompts, options);
    const latents = await model.latents(labels, settings);
    const facts = { weights: model.path, step: model.step, shift, steps, guidance, seed: settings.seed };
    const origins = labels.map((prompt) => ({ prompt }));
    await writeDrawn({ latents, shape: LATENT, labels, origins, isShapes: true, facts }, options);
  });
}

/** Draws latents for the text features of rows, with any model; unconditional means zeros. */
async function sampleRows(rows: readonly number[], options: Options): Promise<void> {
  const { weights = null, threads = null, guidance } = options;
  const source = await locateWeights(options.checkpoint, weights);
  const data = dataConfig(source, options);
  const dataset = describeDataset(data);
  const drawn = repeated(rows, options);
  const conditioning = await conditioningOf(dataset, drawn, options.caption);
  const objective =
    source.manifest === null ? await objectiveFor(source, options) : objectiveIn(source.manifest);
  const batch = Math.min(MOST_AT_ONCE, drawn.length);
  const model = await openLocated(source, {
    latentSize: options.size ?? (source.manifest === null ? [dataset.latent[1], dataset.latent[2]] : null),
    contextTokens: conditioning.context.length / conditioning.count / dataset.text.t5Dim,
    microBatch: 1,
    slots: guidance === 1 ? batch : 2 * batch,
    threads,
    precision: options.precision,
    device: options.device,
  });
  await withModel({ ...model, untrained: model.stored?.untrained === true }, async () => {
    const { latentChannels, contextDim, pooledDim } = model.spec.model;
    requireFeatures(conditioning, dataset.text.t5Dim, { contextDim, pooledDim }, data.path);
    const shape = [latentChannels, model.spec.latentHeight, model.spec.latentWidth] as const;
    const settings = drawSettings(options, objective.shift);
    const { shift, steps, seed } = settings;
    printFields(`${model.path} | ${shape.join(' x ')} | shift ${shift}`, process.stderr);
    const latents = await drawLatents(model, conditioning, objective, settings, batch);
    const ids = dataset.ids(drawn);
    await writeDrawn(
      {
        latents,
        shape,
        labels: drawn.map((row, i) => (ids[i] === String(row) ? `row ${row}` : `row ${row}: ${ids[i]}`)),
        origins: drawn.map((row, i) => ({ row, id: ids[i]! })),
        isShapes: isShapesWorld({ latent: [...shape], encoders: dataset.encoders }),
        facts: {
          ...{ weights: model.path, ...(model.manifest && { step: model.manifest.step }) },
          ...{ data: data.path, rows: drawn.join(','), caption: options.caption },
          ...{ shift, steps, guidance, seed },
          ...{ latent_shift: dataset.spec.latentShift, latent_scale: dataset.spec.latentScale },
        },
      },
      options,
    );
  });
}

/** Latents computed together. */
const MOST_AT_ONCE = 16;

/** The rows or prompts, each as often as it is drawn. */
function repeated<T>(list: readonly T[], { repeat }: Pick<Options, 'repeat'>): T[] {
  return list.flatMap((one) => Array.from({ length: repeat }, () => one));
}

/** Where the rows are, and what their columns are for. */
function dataConfig({ manifest }: WeightsSource, { data, config }: Options): DataConfig {
  const configured =
    config !== undefined
      ? loadConfig(config).data
      : manifest && storedConfig(manifest.config, 'the config in the checkpoint').data;
  const path = data ?? configured?.path;
  if (path === undefined) {
    throw new OrchestratorError(
      'ERR_USAGE',
      'Weights alone do not say which data they were trained on: give --data DIR',
      "--config FILE names the columns of another program's data set",
    );
  }
  return { columns: null, latent_shape: null, text_shape: null, ...configured, path };
}

/** What weights alone learned: as they state it, otherwise rectified flow with --shift. */
async function objectiveFor({ path }: WeightsSource, { shift }: Options): Promise<ObjectiveConfig> {
  const stated = await withWeights(path, (weights) => statedTraining(weights, path));
  const found = stated ?? (shift === undefined ? null : { formulation: 'rf', shift });
  if (found === null) {
    throw new OrchestratorError(
      'ERR_USAGE',
      `${path} does not state the resolution shift that it was trained with: give --shift`,
      '1 means none; the released SD3 models use 3',
    );
  }
  return found;
}

function requireFeatures(
  { pooled, count }: Conditioning,
  contextDim: number,
  model: { contextDim: number; pooledDim: number },
  path: string,
): void {
  const pooledDim = pooled.length / count;
  if (contextDim === model.contextDim && pooledDim === model.pooledDim) return;
  throw new OrchestratorError(
    'ERR_DATA_SHAPE',
    `${path}: the text features are ${contextDim} wide, and the pooled ones ${pooledDim}; the model expects ${model.contextDim} and ${model.pooledDim}`,
  );
}

function readPrompts(path: string): string[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw readFailure('read', path, cause);
  }
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}
