/** Prompts for evaluation, in the categories of GenEval. */
import { plural } from '../captions.js';
import { Draws, PURPOSE } from '../draws.js';
import {
  COLOR_NAMES,
  COUNT_WORDS,
  type Color,
  type CountWord,
  PLACES,
  type Place,
  RELATIONS,
  type Relation,
  SHAPES,
  type Shape,
} from '../vocabulary.js';

/** The categories of GenEval (Ghosh et al., NeurIPS 2023). */
export const GENEVAL_CATEGORIES = [
  'single object',
  'two objects',
  'counting',
  'colors',
  'position',
  'color attribution',
] as const;

/** The categories of GenEval, and `place`, which asks for one object at one of nine places. */
export const CATEGORIES = [...GENEVAL_CATEGORIES, 'place'] as const;
export type Category = (typeof CATEGORIES)[number];

/** Wanted objects: `count` of one shape; the colour is null if the prompt leaves it open. */
interface Wanted {
  shape: Shape;
  color: Color | null;
  count: number;
}

/** A prompt, and what its picture must show. */
export interface PromptCase {
  category: Category;
  prompt: string;
  wanted: Wanted[];
  /** The relation of the first object to the second, or null. */
  relation: Relation | null;
  /** The place of the only object, or null. */
  place: Place | null;
}

/** The first `count` cases of a category: a function of (category, seed) alone. */
export function drawCases(category: Category, count: number, seed: bigint): PromptCase[] {
  const purpose = PURPOSE.prompts + CATEGORIES.indexOf(category);
  return Array.from({ length: count }, (_, i) => drawCase(category, new Draws(seed, purpose, i)));
}

function drawCase(category: Category, draws: Draws): PromptCase {
  const shape = draws.pick(SHAPES);
  const color = draws.pick(COLOR_NAMES);
  const other = draws.pick(SHAPES.filter((s) => s !== shape));
  const otherColor = draws.pick(COLOR_NAMES.filter((c) => c !== color));
  const one = (s: Shape, c: Color | null): Wanted => ({ shape: s, color: c, count: 1 });
  const asked = (prompt: string, wanted: Wanted[], rest: Partial<PromptCase> = {}): PromptCase => ({
    category,
    prompt,
    wanted,
    relation: null,
    place: null,
    ...rest,
  });
  switch (category) {
    case 'single object':
      return asked(shape, [one(shape, null)]);
    case 'two objects':
      return asked(`${shape} and ${other}`, [one(shape, null), one(other, null)]);
    case 'counting': {
      const word = draws.pick(Object.keys(COUNT_WORDS) as CountWord[]);
      return asked(`${word} ${plural(shape)}`, [{ shape, color: null, count: COUNT_WORDS[word] }]);
    }
    case 'colors':
      return asked(`${color} ${shape}`, [one(shape, color)]);
    case 'position': {
      const relation = draws.pick(RELATIONS);
      return asked(`${shape} ${relation} ${other}`, [one(shape, null), one(other, null)], { relation });
    }
    case 'color attribution':
      return asked(`${color} ${shape} and ${otherColor} ${other}`, [
        one(shape, color),
        one(other, otherColor),
      ]);
    case 'place': {
      const place = draws.pick(PLACES);
      return asked(`${color} ${shape} at the ${place}`, [one(shape, color)], { place });
    }
  }
}
