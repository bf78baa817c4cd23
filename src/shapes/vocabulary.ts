/** The nouns, adjectives and places of the shapes world, and the numbers behind them. */

/** Side of a picture in pixels. */
export const PICTURE_SIZE = 64;

export const SHAPES = ['circle', 'square', 'triangle', 'cross'] as const;
export type Shape = (typeof SHAPES)[number];

export type Rgb = readonly [number, number, number];

/** Colours of objects (sRGB, 0 to 255). */
export const COLORS = {
  red: [222, 44, 44],
  orange: [246, 138, 30],
  yellow: [250, 224, 40],
  green: [48, 176, 72],
  cyan: [64, 216, 228],
  blue: [52, 84, 232],
  purple: [160, 56, 208],
} as const satisfies Record<string, Rgb>;
export type Color = keyof typeof COLORS;
export const COLOR_NAMES = Object.keys(COLORS) as Color[];

/** Colours of backgrounds. */
export const BACKGROUNDS = {
  black: [8, 8, 8],
  navy: [14, 18, 66],
  gray: [206, 206, 206],
  white: [250, 250, 250],
} as const satisfies Record<string, Rgb>;
export type Background = keyof typeof BACKGROUNDS;
export const BACKGROUND_NAMES = Object.keys(BACKGROUNDS) as Background[];

/** The background that terse captions do not mention. */
export const USUAL_BACKGROUND: Background = 'black';

/** Smallest and largest half extent of an object, in pixels. */
export const SIZES = { small: [8, 8.5], large: [13, 13.5] } as const;
export type Size = keyof typeof SIZES;
export const SIZE_NAMES = Object.keys(SIZES) as Size[];

/** Names of the nine places, row by row. */
export const PLACES = [
  'top left',
  'top center',
  'top right',
  'middle left',
  'center',
  'middle right',
  'bottom left',
  'bottom center',
  'bottom right',
] as const;
export type Place = (typeof PLACES)[number];

/** Centre coordinates of the three columns, and of the three rows. */
export const PLACE_CENTERS = [13, 32, 51] as const;

/** The direction from the first object to the second; y points down. */
const DIRECTIONS = {
  'left of': [1, 0],
  'right of': [-1, 0],
  above: [0, 1],
  below: [0, -1],
} as const;
export type Relation = keyof typeof DIRECTIONS;
export const RELATIONS = Object.keys(DIRECTIONS) as Relation[];

export const COUNT_WORDS = { two: 2, three: 3 } as const;
export type CountWord = keyof typeof COUNT_WORDS;

/** BT.601 luma of a colour, 0 to 255. */
export function luma(color: Rgb): number {
  return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2];
}

/** Smallest difference of luma between an object and its background that makes the shape visible. */
export const LEAST_CONTRAST = 60;

/** Colours with enough contrast to a background. */
export function colorsOn(background: Background): Color[] {
  const ground = luma(BACKGROUNDS[background]);
  return COLOR_NAMES.filter((name) => Math.abs(luma(COLORS[name]) - ground) >= LEAST_CONTRAST);
}

/** The place that contains a point. */
export function placeOf(x: number, y: number): Place {
  return PLACES[3 * nearest(y) + nearest(x)]!;
}

function nearest(value: number): number {
  const edge = (PLACE_CENTERS[0] + PLACE_CENTERS[1]) / 2;
  return value < edge ? 0 : value < PICTURE_SIZE - edge ? 1 : 2;
}

/** Whether a is in a relation to b, by at least a margin in pixels. */
export function relates(
  relation: Relation,
  a: { x: number; y: number },
  b: { x: number; y: number },
  margin: number,
): boolean {
  const [dx, dy] = DIRECTIONS[relation];
  return dx * (b.x - a.x) + dy * (b.y - a.y) >= margin;
}
