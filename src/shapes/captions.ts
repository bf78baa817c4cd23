/** The captions of a scene. */
import type { Draws } from './draws.js';
import type { Scene, SceneObject } from './scene.js';
import {
  type Color,
  type Place,
  placeOf,
  type Relation,
  type Shape,
  USUAL_BACKGROUND,
} from './vocabulary.js';

/**
 * The two captions of a picture: `original` in the style of people who tag pictures, `synthetic` in that of a
 * captioning model.
 */
export interface Captions {
  original: string;
  synthetic: string;
  /** What the original caption says of the objects. */
  stated: Stated;
}

/**
 * Writes the captions of a scene. The original one is terse: it may omit colours, always omits sizes, and
 * mentions the background and the places of objects only if they are unusual. The synthetic one mentions
 * everything.
 */
export function caption(scene: Scene, draws: Draws): Captions {
  const stated = statedOf(scene, draws);
  return { original: original(scene, stated), synthetic: synthetic(scene, draws), stated };
}

/** An object as a caption names it; what it leaves open is null. */
export interface StatedObject {
  shape: Shape;
  color: Color | null;
  place: Place | null;
}

/** What a caption says of the objects of a picture. */
export interface Stated {
  objects: StatedObject[];
  /** The relation of the first object to the second, or null. */
  relation: Relation | null;
}

/**
 * Fraction of original captions that name the colours, and of synthetic captions that state a relation
 * instead of the places.
 */
const COLOR_SHARE = 0.75;
const RELATION_SHARE = 0.5;

function statedOf({ kind, objects, relation, usual }: Scene, draws: Draws): Stated {
  const alike = kind !== 'count' && new Set(objects.map((o) => o.shape)).size < objects.length;
  const colored = draws.uniform() < COLOR_SHARE || alike;
  const stated = objects.map(({ shape, color, x, y }) => ({
    shape,
    color: colored ? color : null,
    place: usual ? null : placeOf(x, y),
  }));
  return { objects: stated, relation };
}

function original({ kind, background }: Scene, { objects, relation }: Stated): string {
  const ground = background === USUAL_BACKGROUND ? '' : ` on ${background}`;
  const names = objects.map(({ shape, color, place }) => {
    const name = color === null ? shape : `${color} ${shape}`;
    return place === null ? name : `${name} at the ${place}`;
  });
  if (kind === 'count') return `${countWord(objects.length)} ${plural(names[0]!)}${ground}`;
  return `${relation === null ? list(names) : names.join(` ${relation} `)}${ground}`;
}

function synthetic({ kind, objects, relation, background }: Scene, draws: Draws): string {
  const ground = `on a ${background} background`;
  const names = objects.map((o) => `a ${o.size} ${o.color} ${o.shape}`);
  if (kind === 'count') {
    const { size, color, shape } = objects[0]!;
    return `${countWord(objects.length)} ${size} ${color} ${plural(shape)} ${ground}`;
  }
  if (relation !== null && draws.uniform() < RELATION_SHARE)
    return `${names.join(` ${relation} `)} ${ground}`;
  return `${list(names.map((name, i) => placed(name, objects[i]!)))} ${ground}`;
}

function placed(name: string, { x, y }: SceneObject): string {
  return `${name} at the ${placeOf(x, y)}`;
}

/** "a", "a and b", "a, b and c". */
function list(names: string[]): string {
  const last = names.at(-1)!;
  return names.length === 1 ? last : `${names.slice(0, -1).join(', ')} and ${last}`;
}

function countWord(number: number): string {
  return number === 2 ? 'two' : 'three';
}

/** "circle" -> "circles", "red cross" -> "red crosses". */
export function plural(noun: string): string {
  return noun.endsWith('s') ? `${noun}es` : `${noun}s`;
}
