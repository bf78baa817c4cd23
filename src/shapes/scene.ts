import type { Draws } from './draws.js';
import {
  BACKGROUND_NAMES,
  type Background,
  type Color,
  colorsOn,
  PICTURE_SIZE,
  PLACE_CENTERS,
  RELATIONS,
  type Relation,
  relates,
  SHAPES,
  type Shape,
  SIZES,
  type Size,
} from './vocabulary.js';

/** One object; x, y is the centre of its bounding box and radius half its larger side, in pixels. */
export interface SceneObject {
  shape: Shape;
  color: Color;
  size: Size;
  x: number;
  y: number;
  radius: number;
}

/**
 * What a picture shows. `single`: one object; `pair` and `triple`: objects no two of which are alike in both shape and
 * colour; `count`: two or three objects of one shape, colour and size.
 */
export interface Scene {
  kind: 'single' | 'pair' | 'triple' | 'count';
  background: Background;
  objects: SceneObject[];
  /** For a pair: how the first lies to the second. */
  relation: Relation | null;
}

/** Shares of the kinds of scenes. */
export const KIND_SHARES = { single: 0.45, pair: 0.33, count: 0.16, triple: 0.06 } as const;

/** Least free space between two objects, and between an object and the picture's edge, in pixels. */
const GAP = 3;
const EDGE = 1;
/** Least difference of centres for a relation. */
const RELATION_MARGIN = 12;
const JITTER = 1;

/** Draws a scene. */
export function drawScene(draws: Draws): Scene {
  const kind = drawKind(draws);
  const background = draws.pick(BACKGROUND_NAMES);
  // A combination of sizes and places can be impossible to lay out; then everything but the kind is drawn again.
  for (;;) {
    const objects = drawLooks(draws, kind, background);
    if (!layOut(draws, objects)) continue;
    return { kind, background, objects, relation: kind === 'pair' ? drawRelation(draws, objects) : null };
  }
}

function drawKind(draws: Draws): Scene['kind'] {
  let u = draws.uniform();
  for (const [kind, share] of Object.entries(KIND_SHARES) as [Scene['kind'], number][]) {
    if (u < share) return kind;
    u -= share;
  }
  return 'single';
}

function drawLooks(draws: Draws, kind: Scene['kind'], background: Background): SceneObject[] {
  const colors = colorsOn(background);
  const one = (size: Size): SceneObject => ({
    shape: draws.pick(SHAPES),
    color: draws.pick(colors),
    size,
    x: 0,
    y: 0,
    radius: 0,
  });
  if (kind === 'single') return [one(drawSize(draws, 0.5))];
  if (kind === 'count') {
    const number = draws.uniform() < 0.5 ? 2 : 3;
    const model = one(drawSize(draws, number === 2 ? 0.3 : 0));
    return Array.from({ length: number }, () => ({ ...model }));
  }
  const objects: SceneObject[] = [];
  while (objects.length < (kind === 'pair' ? 2 : 3)) {
    const next = one(drawSize(draws, kind === 'pair' ? 0.35 : 0));
    if (!objects.some((o) => o.shape === next.shape && o.color === next.color)) objects.push(next);
  }
  return objects;
}

function drawSize(draws: Draws, shareOfLarge: number): Size {
  return draws.uniform() < shareOfLarge ? 'large' : 'small';
}

/** Puts the objects into different cells of the 3 x 3 places, apart from each other; false if it found no way. */
function layOut(draws: Draws, objects: SceneObject[]): boolean {
  for (let attempt = 0; attempt < 20; attempt++) {
    for (const object of objects) {
      const [least, most] = SIZES[object.size];
      object.radius = least + (most - least) * draws.uniform();
      object.x = place(draws, object.radius);
      object.y = place(draws, object.radius);
    }
    if (apart(objects)) return true;
  }
  return false;
}

function place(draws: Draws, radius: number): number {
  const wanted = draws.pick(PLACE_CENTERS) + (2 * draws.uniform() - 1) * JITTER;
  return Math.min(Math.max(wanted, radius + EDGE), PICTURE_SIZE - radius - EDGE);
}

function apart(objects: SceneObject[]): boolean {
  return objects.every((a, i) =>
    objects.slice(i + 1).every((b) => {
      const room = a.radius + b.radius + GAP;
      return Math.abs(a.x - b.x) >= room || Math.abs(a.y - b.y) >= room;
    }),
  );
}

function drawRelation(draws: Draws, objects: SceneObject[]): Relation | null {
  const [a, b] = objects as [SceneObject, SceneObject];
  const holding = RELATIONS.filter((relation) => relates(relation, a, b, RELATION_MARGIN));
  return holding.length > 0 ? draws.pick(holding) : null;
}
