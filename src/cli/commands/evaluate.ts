/** `orchestrator evaluate`: how well a trained model of the shapes world follows its prompts. */
import type { Command } from 'commander';
import { type EvaluationResult, evaluateModel } from '../../shapes/evaluation/evaluate.js';
import { alignedRows } from '../../text/columns.js';
import { picturePath, positiveInteger } from '../arguments.js';
import { printResult } from '../output.js';
import { type SamplerOptions, samplerOptions, withShapesModel } from '../sampler-options.js';

interface Options extends SamplerOptions {
  count: number;
  json?: true;
  grid?: string;
}

export function register(program: Command): void {
  const command = program
    .command('evaluate')
    .description(
      "score a model that was trained on the demo data (the shapes world) by GenEval's categories, and compare it with chance",
    )
    .option('--count <n>', 'pictures of each category', positiveInteger, 64)
    .option(
      '--grid <file>',
      'also write the first eight pictures of each category, as .png, .jpg or .webp',
      picturePath,
    )
    .option('--json', 'print JSON');
  samplerOptions(command, { seed: 'seed of the prompts and of the initial noise' }).action(evaluate);
}

async function evaluate(options: Options): Promise<void> {
  const { count, grid = null } = options;
  await withShapesModel(options, async (model, settings) => {
    const result = await evaluateModel(model, { ...settings, count, grid });
    printResult(result, options.json, render);
  });
}

function render({ checkpoint, step, score }: EvaluationResult): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const { color, shape, place } = score.oneObject;
  return `${[
    `${checkpoint}, step ${step}`,
    ...alignedRows([
      ['category', 'pictures', 'score', 'chance'],
      ...score.categories.map((c) => [c.category, String(c.count), percent(c.score), percent(c.chance)]),
      ['mean of the six of GenEval', '', percent(score.overall), percent(score.overallChance)],
    ]),
    `one object at a place: color ${percent(color)}, place ${percent(place)}, shape ${percent(shape)}`,
    'chance: each picture scored against the prompts of the other pictures of its category',
  ].join('\n')}\n`;
}
