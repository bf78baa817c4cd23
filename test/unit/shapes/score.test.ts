import { describe, expect, test } from 'vitest';
import type { DetectedObject } from '../../../src/shapes/evaluation/detector.js';
import { attributes, satisfies } from '../../../src/shapes/evaluation/judge.js';
import { CATEGORIES, drawCases, type PromptCase } from '../../../src/shapes/evaluation/prompts.js';
import { score } from '../../../src/shapes/evaluation/score.js';
import { phrases } from '../../../src/shapes/tokenizer.js';
import { PLACE_CENTERS, PLACES, type Shape } from '../../../src/shapes/vocabulary.js';

function object(shape: Shape | null, color: DetectedObject['color'], x: number, y: number): DetectedObject {
  return { shape, color, x, y, radius: 8, fit: 0.9 };
}

const base: PromptCase = { category: 'colors', prompt: '', wanted: [], relation: null, place: null };
const redCircle = { shape: 'circle', color: 'red', count: 1 } as const;
const blueSquare = { shape: 'square', color: 'blue', count: 1 } as const;

describe('satisfies', () => {
  test('wants shape and colour, and nothing else in the picture', () => {
    const wanted = { ...base, wanted: [redCircle] };
    expect(satisfies([object('circle', 'red', 30, 30)], wanted)).toBe(true);
    expect(satisfies([object('circle', 'blue', 30, 30)], wanted)).toBe(false);
    expect(satisfies([object('square', 'red', 30, 30)], wanted)).toBe(false);
    expect(satisfies([object(null, 'red', 30, 30)], wanted)).toBe(false);
    expect(satisfies([], wanted)).toBe(false);
    expect(satisfies([object('circle', 'red', 10, 10), object('cross', 'red', 50, 50)], wanted)).toBe(false);
  });

  test('wants colours on the right shapes', () => {
    const wanted = { ...base, wanted: [redCircle, blueSquare] };
    const swapped = [object('circle', 'blue', 10, 10), object('square', 'red', 50, 50)];
    expect(satisfies(swapped, wanted)).toBe(false);
    expect(satisfies([object('square', 'blue', 10, 10), object('circle', 'red', 50, 50)], wanted)).toBe(true);
  });

  test('counts', () => {
    const wanted = { ...base, wanted: [{ shape: 'circle', color: null, count: 3 } as const] };
    const circles = [10, 30, 50].map((x) => object('circle', 'red', x, 20));
    expect(satisfies(circles, wanted)).toBe(true);
    expect(satisfies(circles.slice(1), wanted)).toBe(false);
  });

  test('looks at relations with y downwards, and at places', () => {
    const pair = [object('circle', 'red', 10, 12), object('square', 'blue', 50, 12)];
    const related = (relation: PromptCase['relation']) => ({
      ...base,
      wanted: [redCircle, blueSquare],
      relation,
    });
    expect(satisfies(pair, related('left of'))).toBe(true);
    expect(satisfies(pair, related('right of'))).toBe(false);
    expect(satisfies(pair, related('above'))).toBe(false);
    const upright = [object('square', 'blue', 30, 50), object('circle', 'red', 32, 12)];
    expect(satisfies(upright, related('above'))).toBe(true);
    expect(satisfies(upright, related('below'))).toBe(false);
    PLACES.forEach((place, i) => {
      const [x, y] = [PLACE_CENTERS[i % 3]!, PLACE_CENTERS[Math.floor(i / 3)]!];
      const placed = { ...base, wanted: [redCircle], place };
      expect(satisfies([object('circle', 'red', x, y)], placed)).toBe(true);
      expect(satisfies([object('circle', 'red', (x + 20) % 60, y)], placed)).toBe(false);
    });
  });

  test('tells the attributes of one object apart', () => {
    const wanted: PromptCase = { ...base, wanted: [redCircle], place: 'center' };
    expect(attributes({ objects: [object('square', 'red', 32, 32)], wanted })).toEqual({
      color: true,
      shape: false,
      place: true,
    });
    expect(attributes({ objects: [], wanted })).toEqual({ color: false, shape: false, place: false });
  });
});

/** The picture of somebody who does exactly what is asked for. */
function obey(wanted: PromptCase): DetectedObject[] {
  const objects = wanted.wanted.flatMap((w, i) =>
    Array.from({ length: w.count }, (_, k) => object(w.shape, w.color ?? 'green', 13 + 19 * (i + k), 32)),
  );
  const [first, second] = objects as [DetectedObject, DetectedObject?];
  if (wanted.place !== null) {
    const cell = PLACES.indexOf(wanted.place);
    first.x = PLACE_CENTERS[cell % 3]!;
    first.y = PLACE_CENTERS[Math.floor(cell / 3)]!;
  }
  if (wanted.relation === 'right of') [first.x, second!.x] = [second!.x, first.x];
  if (wanted.relation === 'above') second!.y += 19;
  if (wanted.relation === 'below') second!.y -= 19;
  return objects;
}

describe('score', () => {
  const cases = CATEGORIES.flatMap((category) => drawCases(category, 60, 1n));

  test('gives all points for exact pictures, and chance far below', () => {
    const result = score(cases.map((wanted) => ({ wanted, objects: obey(wanted) })));
    expect(result.overall).toBe(1);
    expect(result.oneObject).toEqual({ color: 1, shape: 1, place: 1 });
    for (const { category, score: points, chance, count } of result.categories) {
      expect([category, points, count]).toEqual([category, 1, 60]);
      expect(chance).toBeLessThan(0.4);
    }
    // One of four shapes: other prompts ask for the same one a quarter of the time.
    expect(Math.abs(result.categories[0]!.chance - 0.25)).toBeLessThan(0.05);
  });

  test('gives the level of chance to pictures that ignore their prompts', () => {
    const single = drawCases('single object', 60, 1n);
    const constant = score(single.map((wanted) => ({ wanted, objects: [object('circle', 'red', 32, 32)] })));
    const share = single.filter(({ wanted }) => wanted[0]!.shape === 'circle').length / single.length;
    expect(constant.categories[0]!.score).toBeCloseTo(share, 12);
    expect(constant.categories[0]!.chance).toBeCloseTo(share, 12);
  });

  test('asks in words that the encoders know, and the same for the same seed', () => {
    for (const { prompt } of cases) expect(() => phrases(prompt)).not.toThrow();
    expect(drawCases('position', 5, 1n)).toEqual(drawCases('position', 60, 1n).slice(0, 5));
    expect(drawCases('position', 5, 2n)).not.toEqual(drawCases('position', 5, 1n));
  });
});
