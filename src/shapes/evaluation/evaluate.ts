/** Evaluates a model of the shapes world. */
import type { DrawSettings } from '../../engine/draw.js';
import type { ShapesModel } from '../model.js';
import { writeGrid } from '../pictures.js';
import { detect } from './detector.js';
import { CATEGORIES, drawCases } from './prompts.js';
import { type Score, score } from './score.js';

interface EvaluateOptions extends DrawSettings {
  /** Number of pictures in each category. */
  count: number;
  /** Path for a grid with the first pictures of each category, or null. */
  grid: string | null;
}

export interface EvaluationResult {
  checkpoint: string;
  /** Training steps of the checkpoint. */
  step: number;
  settings: Pick<DrawSettings, 'steps' | 'guidance' | 'shift' | 'solver' | 'schedule'> & { seed: bigint };
  score: Score;
}

const GRID_COLUMNS = 8;

/** Samples pictures for the prompts of every category, and scores what the detector finds in them. */
export async function evaluateModel(
  model: Pick<ShapesModel, 'path' | 'step' | 'sample'>,
  options: EvaluateOptions,
): Promise<EvaluationResult> {
  const cases = CATEGORIES.flatMap((category) => drawCases(category, options.count, options.seed));
  const pictures = await model.sample(
    cases.map(({ prompt }) => prompt),
    options,
  );
  const judged = cases.map((wanted, i) => ({ wanted, objects: detect(pictures[i]!) }));
  if (options.grid !== null) {
    const shown = cases.flatMap(({ prompt }, i) =>
      i % options.count < GRID_COLUMNS ? [{ label: prompt, pixels: pictures[i]! }] : [],
    );
    await writeGrid(shown, options.grid, { columns: Math.min(GRID_COLUMNS, options.count) });
  }
  const { steps, guidance, shift, solver, schedule, seed } = options;
  return {
    checkpoint: model.path,
    step: model.step,
    settings: { steps, guidance, shift, solver, schedule, seed },
    score: score(judged),
  };
}
