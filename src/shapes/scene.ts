/** Scenes: what a picture shows. */
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
  SHAPES,
  type Shape,
  SIZES,
  type Size,
  USUAL_BACKGROUND,
} from './vocabulary.js';

/** An object without its position. */
interface Look {
  shape: Shape;
  color: Color;
  size: Size;
}

/** An object; x, y is the centre of its bounding box and radius half its larger side, in pixels. */
export interface SceneObject extends Look {
  x: number;
  y: number;
  radius: number;
}

/**
 * A scene. `single`: one object; `pair` and `triple`: objects that differ in shape or colour; `count`: two or
 * three objects of one shape, colour and size.
 */
export interface Scene {
  kind: 'single' | 'pair' | 'triple' | 'count';
  background: Background;
  objects: SceneObject[];
  /**
   * Whether the objects are at their usual places, so that a terse caption need not name them: one in the
   * centre, several in a row through the middle in reading order, or a pair in its relation.
   */
  usual: boolean;
  /** The relation of the first object of a pair to the second, if the caption names it; otherwise null. */
  relation: Relation | null;
}

/**
 * Fractions: the kinds of scenes; single objects in the centre; pairs at their usual places, and those among
 * them without a relation; pictures on the usual background.
 */
export const KIND_SHARES = { single: 0.42, pair: 0.36, count: 0.16, triple: 0.06 } as const;
const CENTER_SHARE = 0.3;
const USUAL_PAIR_SHARE = 0.75;
const PLAIN_PAIR_SHARE = 0.4;
const USUAL_BACKGROUND_SHARE = 0.4;
/** Fractions of large objects: single, in a pair, of two alike. Three objects are always small. */
const LARGE_SHARES = { single: 0.5, pair: 0.35, count: 0.35 } as const;

/** Smallest distance between two objects, and between an object and the picture's edge, in pixels. */
const GAP = 3;
const EDGE = 1;
/** Largest offset of an object from the centre of its place, horizontally and vertically. */
const JITTER = 1;

const OTHER_BACKGROUNDS = BACKGROUND_NAMES.filter((name) => name !== USUAL_BACKGROUND);

/** A place's number in PLACES, row by row. */
type Cell = number;
const ROW: readonly Cell[] = [3, 4, 5];
const CENTER: Cell = 4;
const CELLS: readonly Cell[] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
const OUTER_CELLS = CELLS.filter((cell) => cell !== CENTER);
/** The places of the first and the second object of a pair. */
const STANDS: Record<Relation, readonly [Cell, Cell]> = {
  'left of': [3, 5],
  'right of': [5, 3],
  above: [1, 7],
  below: [7, 1],
};

/** Draws a scene of a kind; as a rule that is drawn, too. */
export function drawScene(draws: Draws, kind = drawKind(draws)): Scene {
  const background =
    draws.uniform() < USUAL_BACKGROUND_SHARE ? USUAL_BACKGROUND : draws.pick(OTHER_BACKGROUNDS);
  // Large objects at neighbouring places would touch; then everything except the kind is drawn again.
  for (;;) {
    const looks = drawLooks(draws, kind, background);
    const { cells, usual, relation } = drawCells(draws, kind, looks.length);
    const objects = looks.map((look, i) => put(draws, look, cells[i]!));
    if (apart(objects)) return { kind, background, objects, usual, relation };
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

function drawLooks(draws: Draws, kind: Scene['kind'], background: Background): Look[] {
  const colors = colorsOn(background);
  const one = (shareOfLarge: number): Look => ({
    shape: draws.pick(SHAPES),
    color: draws.pick(colors),
    size: draws.uniform() < shareOfLarge ? 'large' : 'small',
  });
  if (kind === 'single') return [one(LARGE_SHARES.single)];
  if (kind === 'count') {
    const number = draws.uniform() < 0.5 ? 2 : 3;
    const model = one(number === 2 ? LARGE_SHARES.count : 0);
    return Array.from({ length: number }, () => model);
  }
  const looks: Look[] = [];
  while (looks.length < (kind === 'pair' ? 2 : 3)) {
    const next = one(kind === 'pair' ? LARGE_SHARES.pair : 0);
    if (!looks.some((o) => o.shape === next.shape && o.color === next.color)) looks.push(next);
  }
  return looks;
}

function drawCells(
  draws: Draws,
  kind: Scene['kind'],
  count: number,
): { cells: readonly Cell[]; usual: boolean; relation: Relation | null } {
  if (kind === 'single') {
    const usual = draws.uniform() < CENTER_SHARE;
    return { cells: [usual ? CENTER : draws.pick(OUTER_CELLS)], usual, relation: null };
  }
  if (kind === 'pair' && draws.uniform() < USUAL_PAIR_SHARE) {
    const relation = draws.uniform() < PLAIN_PAIR_SHARE ? null : draws.pick(RELATIONS);
    return { cells: STANDS[relation ?? 'left of'], usual: true, relation };
  }
  if (kind === 'pair') {
    const first = draws.pick(CELLS);
    const second = draws.pick(CELLS.filter((cell) => cell !== first));
    return { cells: [first, second], usual: false, relation: null };
  }
  return { cells: count === 2 ? STANDS['left of'] : ROW, usual: true, relation: null };
}

function put(draws: Draws, { shape, color, size }: Look, cell: Cell): SceneObject {
  const [least, most] = SIZES[size];
  const radius = least + (most - least) * draws.uniform();
  const coordinate = (index: number) => {
    const wanted = PLACE_CENTERS[index]! + (2 * draws.uniform() - 1) * JITTER;
    const margin = radius + EDGE;
    return Math.min(Math.max(wanted, margin), PICTURE_SIZE - margin);
  };
  return { shape, color, size, x: coordinate(cell % 3), y: coordinate(Math.floor(cell / 3)), radius };
}

function apart(objects: SceneObject[]): boolean {
  return objects.every((a, i) =>
    objects.slice(i + 1).every((b) => {
      const room = a.radius + b.radius + GAP;
      return Math.abs(a.x - b.x) >= room || Math.abs(a.y - b.y) >= room;
    }),
  );
}
