/** Pieces of SVG in the look of these drawings. */

export const INK = '#202428';
const FAINT = '#646c74';
export const GRID = '#e4e7ea';
export const FRAME = '#c8ccd0';
export const SMALL = 11;
export const TITLE_SIZE = 12;

/** Colours of lines, which stay apart for most people. */
const COLOURS = ['#3366cc', '#dc7633', '#2e8b57', '#8e44ad', '#b8860b', '#c0392b', '#16a2b8', '#7f8c8d'];
export const colourOf = (index: number) => COLOURS[index % COLOURS.length]!;
/** The colours of annotations and thresholds by Grafana's names. */
export const NAMED = { blue: '#3366cc', purple: '#8e44ad', red: '#c0392b', orange: '#dc7633' } as const;

/** The width of a text in DejaVu Sans, about. */
export const widthOf = (text: string, size = SMALL) => 0.6 * size * text.length;

export function text(
  x: number,
  y: number,
  content: string,
  {
    size = SMALL,
    anchor = 'start',
    colour = FAINT,
  }: { size?: number; anchor?: string; colour?: string } = {},
): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text x="${place(x)}" y="${place(y)}" font-size="${size}" text-anchor="${anchor}" fill="${colour}">${escaped}</text>`;
}

export function rectangle(x: number, y: number, width: number, height: number, attributes: string): string {
  return `<rect x="${place(x)}" y="${place(y)}" width="${place(width)}" height="${place(height)}" ${attributes}/>`;
}

export function line(x1: number, y1: number, x2: number, y2: number, attributes: string): string {
  return `<line x1="${place(x1)}" y1="${place(y1)}" x2="${place(x2)}" y2="${place(y2)}" ${attributes}/>`;
}

/** A coordinate in tenths of a pixel. */
export const place = (value: number) => String(Math.round(10 * value) / 10);

const VIRIDIS = ['#440154', '#3b528b', '#21918c', '#5ec962', '#fde725'];

/** The colour of a share of the range, from dark blue to yellow. */
export function viridis(share: number): string {
  const at = Math.min(1, Math.max(0, share)) * (VIRIDIS.length - 1);
  const low = Math.min(VIRIDIS.length - 2, Math.floor(at));
  const channel = (colour: string, i: number) => Number.parseInt(colour.slice(1 + 2 * i, 3 + 2 * i), 16);
  const mixed = [0, 1, 2].map((i) => {
    const [a, b] = [channel(VIRIDIS[low]!, i), channel(VIRIDIS[low + 1]!, i)];
    return Math.round(a + (b - a) * (at - low))
      .toString(16)
      .padStart(2, '0');
  });
  return `#${mixed.join('')}`;
}
