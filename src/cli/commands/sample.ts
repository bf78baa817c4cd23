/** `orchestrator sample`: draws pictures of prompts, or latents for rows of a data set. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { loadConfig } from '../../config/load.js';
import { storedConfig } from '../../config/resume.js';
import { describeDataset } from '../../data/dataset.js';
import { conditioningOf } from '../../data/features.js';
import { CAPTION_KINDS, type CaptionKind } from '../../data/manifest.js';
import type { DataConfig } from '../../data/roles.js';
import { drawLatents, objectiveIn } from '../../engine/draw.js';
import { locateWeights, openLocated, type WeightsSource } from '../../engine/inference.js';
import { falseColours } from '../../engine/preview.js';
import { OrchestratorError } from '../../errors.js';
import { makeFolders, readFailure, replaceFile, requireWritable } from '../../files/io.js';
import { writeSafetensors } from '../../formats/safetensors/write.js';
import { statedTraining } from '../../model/scheduler.js';
import { withWeights } from '../../model/weights.js';
import type { ObjectiveConfig } from '../../objective/objective.js';
import type { Conditioning } from '../../sampling/conditioning.js';
import { decodeLatents, isShapesWorld, LATENT } from '../../shapes/model.js';
import { writeEach, writeGrid } from '../../shapes/pictures.js';
import { PICTURE_SIZE } from '../../shapes/vocabulary.js';
import { counted } from '../../text/quantities.js';
import {
  isLatentsPath,
  latentSides,
  picturePath,
  positiveInteger,
  repeatCount,
  rowNumbers,
  samplesPath,
} from '../arguments.js';
import { choiceOption, WEIGHTS_ALONE } from '../options.js';
import { dialect, printFields, printResult } from '../output.js';
import {
  CHECKPOINT,
  drawSettings,
  type SamplerOptions,
  samplerOptions,
  withModel,
  withShapesModel,
} from '../sampler-options.js';

interface Options extends SamplerOptions {
  prompt: string[];
  prompts?: string;
  rows?: number[];
  data?: string;
  config?: string;
  caption: CaptionKind;
  size?: [number, number];
  repeat: number;
  columns?: number;
  out: string;
  preview?: string;
  each?: string;
  json?: true;
}

/** Latents [count, C, H, W], as the model sees them. */
interface Drawn {
  latents: Float32Array;
  shape: readonly [number, number, number];
  labels: string[];
  /** What each was drawn for: its prompt, or its row and that row's id. */
  origins: { prompt: string }[] | { row: number; id: string }[];
  /** Whether they are of the shapes world, whose decoder gives true colours. */
  isShapes: boolean;
  /** About the latents, for a file of them. */
  facts: Record<string, string | number | bigint>;
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
  const { rows, out, preview, each } = options;
  if (preview !== undefined && !isLatentsPath(out)) {
    throw new OrchestratorError('ERR_USAGE', `--preview needs the latents in --out, and ${out} is a picture`);
  }
  for (const path of [out, preview]) {
    if (path === undefined) continue;
    if (each !== undefined && isInside(each, path)) {
      throw new OrchestratorError('ERR_USAGE', `${path} is in ${each}, the folder of --each`, {
        hint: 'Programs that read single pictures would take it for one of them: name another place',
      });
    }
    requireWritable(path);
  }
  if (each !== undefined) requireEmptyFolder(each);
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
    await write({ latents, shape: LATENT, labels, origins, isShapes: true, facts }, options);
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
    await write(
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

function isInside(folder: string, path: string): boolean {
  const way = relative(resolve(folder), resolve(path));
  return way !== '..' && !way.startsWith('../');
}

/** Pictures of another time among the new ones would be taken for those. */
function requireEmptyFolder(path: string): void {
  requireWritable(join(path, '0000.png'));
  if (existsSync(path) && readdirSync(path).length > 0)
    throw new OrchestratorError('ERR_FILE_WRITE', `${path}: this folder is not empty`, {
      hint: 'name another one, or remove what is in it',
    });
}

/** A file that was written, and what is in it. */
interface Written {
  path: string;
  kind: 'latents' | 'pictures';
  count: number;
  /** The shape [C, H, W] of one latent, or [width, height] of the grid of pictures, or of each. */
  size: readonly number[];
  /** Whether the pictures are what the latents mean; false for a preview in false colours. */
  decoded: boolean | null;
  /** Whether there was a file of this name. */
  replaced: boolean;
}

async function write(drawn: Drawn, { out, preview, each, columns, json }: Options): Promise<void> {
  const grid = isLatentsPath(out) ? preview : out;
  const files: Written[] = [];
  if (isLatentsPath(out)) files.push(await writeLatents(drawn, out));
  if (grid !== undefined || each !== undefined) {
    const pictures = picturesOf(drawn);
    if (grid !== undefined) files.push(await writeLabelled(drawn, pictures, grid, columns ?? null));
    if (each !== undefined) files.push(await writeSingle(drawn, pictures, each));
  }
  if (json) printResult({ ...drawn.facts, files }, json, () => '');
  else for (const file of files) printFields(describeWritten(file));
}

function describeWritten({ path, kind, count, size, decoded, replaced }: Written): string {
  return [
    path,
    counted(count, kind === 'latents' ? 'latent' : 'picture'),
    size.join(' x '),
    ...(decoded === false ? ['a preview in false colours, not decoded'] : []),
    ...(replaced ? ['replaces the file of this name'] : []),
  ].join(' | ');
}

async function writeLatents({ latents, shape, labels, facts }: Drawn, out: string): Promise<Written> {
  const replaced = existsSync(out);
  const metadata = Object.fromEntries(Object.entries(facts).map(([key, value]) => [key, String(value)]));
  await makeFolders(dirname(out));
  const tensor = {
    name: 'latents',
    dtype: 'F32' as const,
    shape: [labels.length, ...shape],
    data: latents,
  };
  await replaceFile(out, (path) => writeSafetensors(path, [tensor], metadata));
  return { path: out, kind: 'latents', count: labels.length, size: shape, decoded: null, replaced };
}

/** The size of a picture: of the shapes world's, which are decoded, or of a preview, a pixel for each of the latent's. */
function sizeOf({ isShapes, shape }: Drawn): { width: number; height: number } {
  return isShapes ? { width: PICTURE_SIZE, height: PICTURE_SIZE } : { width: shape[2], height: shape[1] };
}

/** A picture [height, width, 3] of each latent. */
function picturesOf({ latents, shape, labels, isShapes }: Drawn): Uint8Array[] {
  if (isShapes) return decodeLatents(latents);
  const size = latents.length / labels.length;
  return labels.map((_, i) => falseColours(latents, shape, i * size));
}

async function writeLabelled(
  drawn: Drawn,
  pictures: readonly Uint8Array[],
  path: string,
  columns: number | null,
): Promise<Written> {
  const replaced = existsSync(path);
  const labelled = pictures.map((pixels, i) => ({ pixels, label: drawn.labels[i]! }));
  const { width, height } = await writeGrid(labelled, path, { columns, size: sizeOf(drawn) });
  const [count, size, decoded] = [pictures.length, [width, height], drawn.isShapes];
  return { path, kind: 'pictures', count, size, decoded, replaced };
}

async function writeSingle(drawn: Drawn, pictures: readonly Uint8Array[], path: string): Promise<Written> {
  const size = sizeOf(drawn);
  const { origins, facts } = drawn;
  const single = pictures.map((pixels, i) => {
    const origin = dialect({ ...origins[i]!, seed: facts.seed }) as object;
    return { pixels, origin };
  });
  await writeEach(single, path, size);
  const [count, decoded] = [pictures.length, drawn.isShapes];
  return { path, kind: 'pictures', count, size: [size.width, size.height], decoded, replaced: false };
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
