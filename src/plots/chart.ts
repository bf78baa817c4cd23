/** Line charts: panels side by side, as SVG or as a picture. */
import { writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import sharp from 'sharp';
import { makeFolders, writeFailure } from '../files/io.js';
import { elementary } from '../native/elementary.js';
import { FONT_FAMILY } from './font.js';

export interface Series {
  label: string;
  /** In ascending order of x; the line is interrupted where y is null. */
  points: readonly { x: number; y: number | null }[];
}

export interface Panel {
  title: string;
  xLabel: string;
  /** Whether y is drawn by its logarithm; then only values above 0 are drawn. */
  logarithmic: boolean;
  series: readonly Series[];
}

const WIDTH = 420;
const HEIGHT = 300;
const MARGIN = { left: 64, right: 16, top: 40, bottom: 44 };
const COLUMNS = 2;
const COLOURS = ['#1f5fa8', '#c8502d', '#2f8f4e', '#7a4fa3', '#8a6d1b', '#4a4f55'];
const INK = '#202428';
const GRID = '#d8dce0';

/** Marks at 1, 2 or 5 times a power of ten, about five of them, within [low, high]. */
export function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  let step = 1;
  while (step > rough) step /= 10;
  while (step * 10 <= rough) step *= 10;
  const width = [1, 2, 5, 10].map((factor) => factor * step).find((candidate) => candidate >= rough)!;
  const first = Math.ceil(low / width - 1e-9);
  const last = Math.floor(high / width + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * width).toPrecision(12)));
}

const escaped = (text: string) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

function text(x: number, y: number, content: string, more = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escaped(content)}</text>`;
}

/** The marks of an axis: where they lie on it, and what they say. Powers of ten on a logarithmic axis. */
function marks(low: number, high: number, logarithmic: boolean): { at: number; label: string }[] {
  if (!logarithmic) return ticks(low, high).map((at) => ({ at, label: String(at) }));
  const whole = ticks(low, high).filter((power) => Number.isInteger(power));
  return whole.map((at) => ({ at, label: `1e${at}` }));
}

function drawPanel({ title, xLabel, logarithmic, series }: Panel): string {
  const log10 = (y: number) => elementary().log(y) / Math.LN10;
  const lines = series.map(({ label, points }) => ({
    label,
    points: points.map(({ x, y }) => {
      if (y === null || (logarithmic && y <= 0)) return { x, y: null };
      return { x, y: logarithmic ? log10(y) : y };
    }),
  }));
  const all = lines.flatMap(({ points }) => points);
  const xs = all.map(({ x }) => x);
  const ys = all.flatMap(({ y }) => y ?? []);
  const range = (values: number[], least: number): [number, number] => {
    const [low, high] = values.length === 0 ? [0, 1] : [Math.min(...values), Math.max(...values)];
    const missing = Math.max(0, least - (high - low)) / 2;
    return [low - missing, high + missing];
  };
  const [x0, x1] = range(xs, 1e-9);
  // A constant gets an axis, too; a logarithmic axis is at least two powers of ten long.
  const [y0, y1] = range(ys, logarithmic ? 2 : 1e-3);
  const { left, right, top, bottom } = MARGIN;
  const at = {
    x: (x: number) => left + ((x - x0) / (x1 - x0)) * (WIDTH - left - right),
    y: (y: number) => HEIGHT - bottom - ((y - y0) / (y1 - y0)) * (HEIGHT - top - bottom),
  };
  const parts = [text(WIDTH / 2, 22, title, 'text-anchor="middle" font-weight="bold"')];
  for (const { at: value, label } of marks(y0, y1, logarithmic)) {
    const y = at.y(value);
    parts.push(
      `<line x1="${left}" x2="${WIDTH - right}" y1="${y.toFixed(1)}" y2="${y.toFixed(1)}" stroke="${GRID}"/>`,
      text(left - 6, y + 4, label, 'text-anchor="end"'),
    );
  }
  for (const { at: value, label } of marks(x0, x1, false)) {
    parts.push(text(at.x(value), HEIGHT - bottom + 16, label, 'text-anchor="middle"'));
  }
  parts.push(text(WIDTH / 2, HEIGHT - 8, xLabel, 'text-anchor="middle"'));
  for (const [i, { label, points }] of lines.entries()) {
    const colour = COLOURS[i % COLOURS.length];
    let path = '';
    for (const [k, { x, y }] of points.entries()) {
      const joined = k > 0 && points[k - 1]!.y !== null;
      if (y !== null) path += `${joined ? 'L' : 'M'}${at.x(x).toFixed(2)} ${at.y(y).toFixed(2)}`;
    }
    parts.push(`<path d="${path}" fill="none" stroke="${colour}" stroke-width="1.5"/>`);
    if (lines.length > 1) parts.push(text(left + 8, top + 14 * i, label, `fill="${colour}"`));
  }
  return parts.join('\n');
}

/** The panels as SVG, two in a row. */
export function chartSvg(panels: readonly Panel[]): string {
  const columns = Math.min(COLUMNS, panels.length);
  const [width, height] = [columns * WIDTH, Math.ceil(panels.length / columns) * HEIGHT];
  const drawn = panels.map(
    (panel, i) =>
      `<g transform="translate(${(i % columns) * WIDTH} ${Math.floor(i / columns) * HEIGHT})">\n${drawPanel(panel)}\n</g>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="${FONT_FAMILY}, sans-serif" font-size="11" fill="${INK}">
<rect width="${width}" height="${height}" fill="#ffffff"/>
${drawn.join('\n')}
</svg>
`;
}

/**
 * Writes a chart in the format of the name's ending: .svg, or .png, .jpg and .webp at twice its size.
 *
 * @throws OrchestratorError ERR_FILE_WRITE.
 */
export async function writeChart(path: string, panels: readonly Panel[]): Promise<void> {
  const svg = chartSvg(panels);
  try {
    await makeFolders(dirname(path));
    if (/\.svg$/i.test(path)) await writeFile(path, svg);
    else await sharp(Buffer.from(svg), { density: 144 }).toFile(path);
  } catch (cause) {
    throw writeFailure(path, cause);
  }
}
