/** What `sample` and `evaluate` share: their options, and opening a model. */
import { type Command, Option } from 'commander';
import type { DrawSettings } from '../engine/draw.js';
import { UNTRAINED } from '../engine/stored-weights.js';
import type { WeightsName } from '../native/contract.js';
import { GRID_KINDS } from '../objective/paths.js';
import { SOLVERS } from '../sampling/solvers.js';
import { type OpenOptions, openShapesModel, type ShapesModel } from '../shapes/model.js';
import { finite, parseSeed, positive, positiveInteger } from './arguments.js';
import { choiceOption } from './options.js';
import { printNote } from './output.js';
import { countOf, Progress } from './progress.js';

export interface SamplerOptions
  extends Omit<OpenOptions, 'threads' | 'weights'>,
    Omit<DrawSettings, 'shift' | 'onProgress'> {
  checkpoint: string;
  shift?: number;
  weights?: WeightsName;
  threads?: number;
}

/** The description of --checkpoint where weights alone are not enough. */
export const CHECKPOINT = "a checkpoint's folder, or a run's folder or name (its latest checkpoint)";

/** Adds the options of sampling to a command, with what --seed and --checkpoint mean there. */
export function samplerOptions(
  command: Command,
  { seed, checkpoint = CHECKPOINT }: { seed: string; checkpoint?: string },
): Command {
  // The default is described as text, because commander cannot print a bigint.
  const seedOption = new Option('--seed <n>', seed).argParser(parseSeed).default(0n, '0');
  return command
    .addOption(seedOption)
    .requiredOption('--checkpoint <path>', checkpoint)
    .option('--steps <n>', 'steps of the solver', positiveInteger, 20)
    .option('--guidance <w>', 'guidance scale; 1 = none', finite, 2.5)
    .addOption(
      choiceOption(
        '--solver <name>',
        'method of integration: euler (on curved paths DDIM), heun (two predictions a step), dpmpp-2m (DPM-Solver++)',
        Object.keys(SOLVERS),
      ),
    )
    .addOption(
      choiceOption(
        '--schedule <kind>',
        "noise levels of the steps: the paper's equal steps, the reference code's, or EDM's from sigma = 80",
        GRID_KINDS,
      ),
    )
    .option('--shift <alpha>', "resolution shift (default: the training run's)", positive)
    .addOption(
      new Option(
        '--weights <kind>',
        'weights to use (default: ema, or master where the run kept no EMA)',
      ).choices(['ema', 'master']),
    )
    .addOption(choiceOption('--precision <precision>', 'arithmetic of the model', ['auto', 'fp32', 'bf16']))
    .addOption(choiceOption('--device <device>', 'where the model computes', ['cpu', 'cuda']))
    .option('--threads <n>', 'compute threads (default: one for each processor)', positiveInteger);
}

/** Opens the model, prints its notes, calls `work` with it and the settings of sampling, and closes it. */
export async function withShapesModel(
  options: SamplerOptions,
  work: (model: ShapesModel, settings: DrawSettings) => Promise<void>,
): Promise<void> {
  const { checkpoint, weights = null, threads = null } = options;
  const model = await openShapesModel(checkpoint, { ...options, weights, threads });
  await withModel(model, () => work(model, drawSettings(options, model.shift)));
}

/** Prints the notes on an open model, works with it, and closes it. */
export async function withModel(
  { notes, untrained, close }: { notes: readonly string[]; untrained: boolean; close(): Promise<void> },
  work: () => Promise<void>,
): Promise<void> {
  try {
    for (const note of notes) printNote(`note: ${note}`);
    if (untrained) printNote(`warn ${UNTRAINED}; --weights master uses them`);
    await work();
  } finally {
    await close();
  }
}

/** The settings of sampling, with progress on stderr. */
export function drawSettings(options: SamplerOptions, trainedShift: number): DrawSettings {
  const progress = new Progress('sampling', countOf('step'));
  const onProgress = (done: number, total: number) => progress.update(done, total);
  return { ...options, shift: options.shift ?? trainedShift, onProgress };
}
