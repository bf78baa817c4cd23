import type { Draws } from './draws.js';
import type { Scene, SceneObject } from './scene.js';
import { placeOf } from './vocabulary.js';

/** The two captions of a picture: `original` as people tag pictures, `synthetic` as a captioning model describes them. */
export interface Captions {
  original: string;
  synthetic: string;
}

/** Words the captions of a scene. The original one leaves out much; the synthetic one tells everything. */
export function caption(scene: Scene, draws: Draws): Captions {
  return { original: original(scene, draws), synthetic: synthetic(scene, draws) };
}

/** Share of originals that name the colours, that say where a single object is, and that state a pair's relation. */
const COLOR_SHARE = 0.75;
const PLACE_SHARE = 0.3;
const RELATION_SHARE = 0.6;

function original(scene: Scene, draws: Draws): string {
  const { kind, objects, relation } = scene;
  const first = objects[0]!;
  const sameShapes = kind !== 'count' && new Set(objects.map((o) => o.shape)).size < objects.length;
  const colored = draws.uniform() < COLOR_SHARE || sameShapes;
  const names = objects.map((o) => (colored ? `${o.color} ${o.shape}` : o.shape));
  switch (kind) {
    case 'single':
      return draws.uniform() < PLACE_SHARE ? `${names[0]} at the ${placeOf(first.x, first.y)}` : names[0]!;
    case 'count':
      return `${countWord(objects.length)} ${plural(names[0]!)}`;
    case 'pair':
      return names.join(relation !== null && draws.uniform() < RELATION_SHARE ? ` ${relation} ` : ' and ');
    case 'triple':
      return `${names[0]}, ${names[1]} and ${names[2]}`;
  }
}

function synthetic(scene: Scene, draws: Draws): string {
  const ground = `on a ${scene.background} background`;
  const { kind, objects, relation } = scene;
  const phrase = (o: SceneObject) => `a ${o.size} ${o.color} ${o.shape}`;
  if (kind === 'count') {
    const { size, color, shape } = objects[0]!;
    return `${countWord(objects.length)} ${size} ${color} ${plural(shape)} ${ground}`;
  }
  if (kind === 'pair' && relation !== null && draws.uniform() < 0.5) {
    return `${phrase(objects[0]!)} ${relation} ${phrase(objects[1]!)} ${ground}`;
  }
  const placed = objects.map((o) => `${phrase(o)} at the ${placeOf(o.x, o.y)}`);
  const last = placed.pop()!;
  return `${placed.length > 0 ? `${placed.join(', ')} and ` : ''}${last} ${ground}`;
}

function countWord(number: number): string {
  return number === 2 ? 'two' : 'three';
}

/** "circle" -> "circles", "red cross" -> "red crosses". */
export function plural(noun: string): string {
  return noun.endsWith('s') ? `${noun}es` : `${noun}s`;
}
