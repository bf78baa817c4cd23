/** Compares the objects that were found with those that a prompt asks for. */
import { placeOf, relates } from '../vocabulary.js';
import type { DetectedObject } from './detector.js';
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
export function satisfies(objects: DetectedObject[], wanted: PromptCase): boolean {
  const total = wanted.wanted.reduce((sum, { count }) => sum + count, 0);
  if (objects.length !== total) return false;
  const groups = wanted.wanted.map(({ shape, color }) =>
    objects.filter((o) => o.shape === shape && (color === null || o.color === color)),
  );
  if (groups.some((group, i) => group.length !== wanted.wanted[i]!.count)) return false;
  const [first, second] = groups.map((group) => group[0]!) as [DetectedObject, DetectedObject?];
  if (wanted.place !== null && placeOf(first.x, first.y) !== wanted.place) return false;
  return wanted.relation === null || relates(wanted.relation, first, second!, RELATION_MARGIN);
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
