/** Scores by category, and the scores that chance would give. */
import { mean } from '../../averages.js';
import { attributes, type Judged, satisfies } from './judge.js';
import { CATEGORIES, type Category, GENEVAL_CATEGORIES } from './prompts.js';

interface CategoryScore {
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

/** Scores detected pictures by category. */
export function score(judged: Judged[]): Score {
  const categories = CATEGORIES.flatMap((category) => {
    const group = judged.filter(({ wanted }) => wanted.category === category);
    return group.length === 0 ? [] : [scoreCategory(category, group)];
  });
  const geneval = categories.filter(({ category }) =>
    (GENEVAL_CATEGORIES as readonly Category[]).includes(category),
  );
  const placed = judged.filter(({ wanted }) => wanted.category === 'place').map(attributes);
  return {
    categories,
    overall: share(geneval.map((c) => c.score)),
    overallChance: share(geneval.map((c) => c.chance)),
    oneObject: {
      color: share(placed.map(({ color }) => color)),
      shape: share(placed.map(({ shape }) => shape)),
      place: share(placed.map(({ place }) => place)),
    },
  };
}

function scoreCategory(category: Category, group: Judged[]): CategoryScore {
  const hits = group.map(({ objects, wanted }) => satisfies(objects, wanted));
  const others = group.flatMap(({ objects }, i) =>
    group.filter((_, j) => j !== i).map(({ wanted }) => satisfies(objects, wanted)),
  );
  return { category, count: group.length, score: share(hits), chance: share(others) };
}

/** The mean of numbers, or the fraction that is true; 0 without any. */
function share(values: readonly (number | boolean)[]): number {
  return values.length === 0 ? 0 : mean(values.map(Number));
}
