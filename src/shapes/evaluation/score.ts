/** Scores by category, and the scores that chance would give. */
import type { DetectedObject } from './detector.js';
import { attributes, satisfies } from './judge.js';
import { CATEGORIES, type Category, GENEVAL_CATEGORIES, type PromptCase } from './prompts.js';

export interface CategoryScore {
  category: Category;
  count: number;
  /** Fraction of pictures that show what their prompt asks for. */
  score: number;
  /**
   * The same for pictures that have nothing to do with their prompts: every picture of the category compared
   * with the prompt of every other one, averaged.
   */
  chance: number;
}

export interface Score {
  categories: CategoryScore[];
  /** Mean over GenEval's six categories, as in GenEval. */
  overall: number;
  overallChance: number;
  /**
   * Fraction of the pictures of `place` (one object with a given colour and place) that get each attribute
   * right.
   */
  oneObject: { color: number; shape: number; place: number };
}

/** A case, and the objects that were found in its picture. */
export interface Judged {
  wanted: PromptCase;
  objects: DetectedObject[];
}

/** Scores detected pictures by category. */
export function score(judged: Judged[]): Score {
  const categories = CATEGORIES.flatMap((category) => {
    const group = judged.filter(({ wanted }) => wanted.category === category);
    return group.length === 0 ? [] : [scoreCategory(category, group)];
  });
  const geneval = categories.filter(({ category }) =>
    (GENEVAL_CATEGORIES as readonly Category[]).includes(category),
  );
  const placed = judged
    .filter(({ wanted }) => wanted.category === 'place')
    .map(({ objects, wanted }) => attributes(objects, wanted));
  return {
    categories,
    overall: mean(geneval.map((c) => c.score)),
    overallChance: mean(geneval.map((c) => c.chance)),
    oneObject: {
      color: mean(placed.map((a) => Number(a.color))),
      shape: mean(placed.map((a) => Number(a.shape))),
      place: mean(placed.map((a) => Number(a.place))),
    },
  };
}

function scoreCategory(category: Category, group: Judged[]): CategoryScore {
  const hits = group.map(({ wanted, objects }) => Number(satisfies(objects, wanted)));
  const others = group.flatMap(({ objects }, i) =>
    group.filter((_, j) => j !== i).map(({ wanted }) => Number(satisfies(objects, wanted))),
  );
  return { category, count: group.length, score: mean(hits), chance: mean(others) };
}

function mean(values: number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
