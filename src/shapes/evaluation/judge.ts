/** Compares the objects that were found with those that a prompt asks for. */
import type { Stated, StatedObject } from '../captions.js';
import { placeOf, relates } from '../vocabulary.js';
import { type DetectedObject, detectExactly } from './detector.js';
import type { PromptCase } from './prompts.js';

/** Smallest difference of centres, in pixels, that counts as "left of" and the like. */
const RELATION_MARGIN = 6;

/** A case, and the objects that were found in its picture. */
export interface Judged {
  wanted: PromptCase;
  objects: DetectedObject[];
}

/**
 * Whether a picture shows exactly what a case asks for: the wanted objects and nothing else, in the wanted
 * relation or place. (GenEval itself tolerates additional objects, except when counting.)
 */
export function satisfies(found: DetectedObject[], { wanted, relation, place }: PromptCase): boolean {
  const objects = wanted.flatMap(({ shape, color, count }) =>
    Array.from({ length: count }, () => ({ shape, color, place })),
  );
  return shows(found, { objects, relation });
}

/** Whether a picture shows the objects that are stated, each one of those found, and nothing else. */
export function shows(found: readonly DetectedObject[], { objects, relation }: Stated): boolean {
  return found.length === objects.length && assigned([]);

  /** Whether the objects after the first can be found when these are taken for the first. */
  function assigned(taken: readonly DetectedObject[]): boolean {
    const next = objects[taken.length];
    if (next === undefined) {
      return relation === null || relates(relation, taken[0]!, taken[1]!, RELATION_MARGIN);
    }
    return found.some((one) => !taken.includes(one) && fits(one, next) && assigned([...taken, one]));
  }
}

/** Whether a picture [64, 64, 3] shows the objects that are stated, and nothing else. */
export function showsWhat(pixels: Uint8Array, stated: Stated): boolean {
  const found = detectExactly(pixels, stated.objects.length);
  return found !== null && shows(found, stated);
}

function fits({ shape, color, x, y }: DetectedObject, wanted: StatedObject): boolean {
  return (
    shape === wanted.shape &&
    (wanted.color === null || color === wanted.color) &&
    (wanted.place === null || placeOf(x, y) === wanted.place)
  );
}

/**
 * Which attributes of a one-object case a picture gets right; none if it does not show exactly one object.
 */
export function attributes({ objects, wanted }: Judged): Record<'color' | 'shape' | 'place', boolean> {
  const only = objects.length === 1 ? objects[0] : undefined;
  const asked = wanted.wanted[0]!;
  return {
    color: only?.color === asked.color,
    shape: only?.shape === asked.shape,
    place: only !== undefined && placeOf(only.x, only.y) === wanted.place,
  };
}
