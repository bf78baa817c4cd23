/**
 * A small stroke font, so that labels look the same on machines without fonts. A glyph consists of polylines,
 * separated by "|", of points "xy" on a grid: x from 0, y from 0 (top of capitals) over 2 (top of small
 * letters) and 6 (baseline) to 8 (descenders).
 */
const GLYPHS: Record<string, string> = {
  ' ': '',
  a: '12 32 43 46|44 14 05 16 36 45',
  b: '00 06|03 12 32 43 45 36 16 05',
  c: '43 32 12 03 05 16 36 45',
  d: '40 46|43 32 12 03 05 16 36 45',
  e: '04 44 43 32 12 03 05 16 36 45',
  f: '30 20 11 16|02 32',
  g: '42 47 38 18 07|43 32 12 03 05 16 36 45',
  h: '00 06|03 12 32 43 46',
  i: '02 06|00 00',
  j: '22 27 18 08|20 20',
  k: '00 06|32 04|14 36',
  l: '00 05 16',
  m: '02 06|03 12 22 33 36|33 42 52 63 66',
  n: '02 06|03 12 32 43 46',
  o: '12 32 43 45 36 16 05 03 12',
  p: '02 08|03 12 32 43 45 36 16 05',
  q: '42 48|43 32 12 03 05 16 36 45',
  r: '02 06|04 13 22 32',
  s: '43 32 12 03 14 34 45 36 16 05',
  t: '10 15 26 36|02 32',
  u: '02 05 16 36 45|42 46',
  v: '02 26 42',
  w: '02 16 33 56 62',
  x: '02 46|42 06',
  y: '02 26|42 18 08',
  z: '02 42 06 46',
  A: '06 20 46|14 34',
  B: '00 06 36 45 44 33 03|33 42 41 30 00',
  C: '41 30 10 01 05 16 36 45',
  D: '00 06 26 44 42 20 00',
  E: '40 00 06 46|03 33',
  F: '40 00 06|03 33',
  G: '41 30 10 01 05 16 36 45 43 23',
  H: '00 06|40 46|03 43',
  I: '00 06',
  J: '30 35 26 16 05',
  K: '00 06|40 04|13 46',
  L: '00 06 46',
  M: '06 00 33 60 66',
  N: '06 00 46 40',
  O: '10 30 41 45 36 16 05 01 10',
  P: '06 00 30 41 42 33 03',
  Q: '10 30 41 45 36 16 05 01 10|34 46',
  R: '06 00 30 41 42 33 03|23 46',
  S: '41 30 10 01 02 13 33 44 45 36 16 05',
  T: '00 40|20 26',
  U: '00 05 16 36 45 40',
  V: '00 26 40',
  W: '00 16 32 56 60',
  X: '00 46|40 06',
  Y: '00 23 40|23 26',
  Z: '00 40 06 46',
  0: '10 30 41 45 36 16 05 01 10|32 14',
  1: '01 10 16',
  2: '01 10 30 41 42 06 46',
  3: '01 10 30 41 42 33 13|33 44 45 36 16 05',
  4: '36 30 04 44',
  5: '40 00 03 12 32 43 45 36 16 05',
  6: '41 30 10 01 05 16 36 45 44 33 13 04',
  7: '00 40 16',
  8: '13 02 01 10 30 41 42 33 13 04 05 16 36 45 44 33',
  9: '42 33 13 02 01 10 30 41 45 36 16 05',
  '.': '06 06',
  ',': '16 07',
  ':': '03 03|06 06',
  ';': '13 13|16 07',
  '!': '00 04|06 06',
  '?': '01 10 30 41 42 24|26 26',
  "'": '00 01',
  '"': '00 01|20 21',
  '-': '04 24',
  _: '07 47',
  '+': '04 44|22 26',
  '=': '03 43|05 45',
  '/': '30 06',
  '(': '10 02 04 16',
  ')': '00 12 14 06',
  '%': '40 06|00 10 11 01 00|35 45 46 36 35',
};
/** A box, for all other characters. */
const UNKNOWN = '00 40 46 06 00';
const SPACE_WIDTH = 2;
/** Space between glyphs. */
const GAP = 1.7;

interface Glyph {
  lines: [number, number][][];
  width: number;
}

const parsed = new Map<string, Glyph>();

function glyph(character: string): Glyph {
  const known = parsed.get(character);
  if (known !== undefined) return known;
  const source = GLYPHS[character] ?? UNKNOWN;
  const lines = source === '' ? [] : source.split('|').map((line) => line.split(' ').map(point));
  const width = source === '' ? SPACE_WIDTH : Math.max(...lines.flat().map(([x]) => x));
  const made = { lines, width };
  parsed.set(character, made);
  return made;
}

function point(text: string): [number, number] {
  return [Number(text[0]), Number(text[1])];
}

/** Height of a line of text in grid units, from the top of capitals to the bottom of descenders. */
export const LINE_UNITS = 8;

/** Width of a text in grid units. */
export function textUnits(text: string): number {
  return [...text].reduce((sum, character) => sum + glyph(character).width + GAP, -GAP);
}

/** SVG path data of a text whose capitals' top left corner is at (left, top); `unit` pixels per grid unit. */
export function textPath(text: string, left: number, top: number, unit: number): string {
  let path = '';
  let pen = left;
  for (const character of text) {
    const { lines, width } = glyph(character);
    for (const line of lines) {
      const points = line.map(([x, y]) => `${(pen + x * unit).toFixed(2)} ${(top + y * unit).toFixed(2)}`);
      // A dot is a line of length zero, which round caps make visible.
      path += `M${points.join('L')}`;
    }
    pen += (width + GAP) * unit;
  }
  return path;
}

/**
 * Breaks a text into lines of at most `units` grid units, between words, and within words that are longer
 * than a line.
 */
export function wrapText(text: string, units: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(/\s+/).flatMap((w) => splitWord(w, units))) {
    const longer = `${lines.at(-1)} ${word}`;
    if (lines.length > 0 && textUnits(longer) <= units) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

function splitWord(word: string, units: number): string[] {
  const parts: string[] = [];
  for (const character of word) {
    const longer = `${parts.at(-1)}${character}`;
    if (parts.length > 0 && textUnits(longer) <= units) parts[parts.length - 1] = longer;
    else parts.push(character);
  }
  return parts;
}
