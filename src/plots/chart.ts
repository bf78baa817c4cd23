/** Charts of lines and of points: panels side by side, as SVG or as a picture. */
import { elementary } from '../native/elementary.js';
import { COLOURS, GRID, line, svg, text, writeDrawing } from './drawing.js';

export interface Series {
  /** Series of one label have one colour in all panels. */
  label: string;
  /** In ascending order of x; a line is interrupted where y is null. */
  points: readonly { x: number; y: number | null }[];
}

export interface Panel {
  title: string;
  xLabel: string;
  yLabel?: string;
  /** Lines by default; points are not joined. */
  style?: 'lines' | 'points';
  /** Values that the axis of y reaches at least. */
  within?: readonly [number, number];
  /** Whether y is drawn by its logarithm; then only values above 0 are drawn. */
  logarithmic: boolean;
  series: readonly Series[];
}

const WIDTH = 420;
const HEIGHT = 300;
const MARGIN = { left: 64, right: 16, top: 40, bottom: 44 };
const COLUMNS = 2;
/** The points of a line are marked if there are at most so many. */
const MOST_MARKED = 12;
/** The least width of the list of labels, that of a character (few are wider), and the distance of its lines. */
const LEGEND = 150;
const LEGEND_CHARACTER = 7;
const LEGEND_LINE = 16;
/** A label stands this far right of the beginning of its mark, and has so many characters at most. */
const LABEL_LEFT = 20;
const LONGEST_LABEL = 60;

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

/** Powers of ten that a logarithmic axis spans, up to which 1, 2 and 5 times each are marked, too. */
const CLOSE_MARKS = 2.5;

const log10 = (y: number) => elementary().log(y) / Math.LN10;

/** The marks of an axis: where they lie on it, and what they say. */
function marks(low: number, high: number, logarithmic: boolean): { at: number; label: string }[] {
  if (!logarithmic) return ticks(low, high).map((at) => ({ at, label: String(at) }));
  const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, i) => Math.floor(low) + i);
  const factors = high - low <= CLOSE_MARKS ? [1, 2, 5] : [1];
  return powers.flatMap((power) =>
    factors
      .map((factor) => ({ at: power + log10(factor), label: `${factor}e${power}` }))
      .map(({ at, label }) => ({
        at,
        label: Math.abs(power) <= 3 && factors.length > 1 ? String(Number(label)) : label,
      }))
      .filter(({ at }) => at >= low - 1e-9 && at <= high + 1e-9),
  );
}

function drawPanel(panel: Panel, labels: readonly string[]): string {
  const { title, xLabel, yLabel, style, within = [], logarithmic, series } = panel;
  const lines = series.map(({ label, points }) => ({
    label,
    points: points.map(({ x, y }) => {
      if (y === null || (logarithmic && y <= 0)) return { x, y: null };
      return { x, y: logarithmic ? log10(y) : y };
    }),
  }));
  const all = lines.flatMap(({ points }) => points);
  const xs = all.map(({ x }) => x);
  const ys = [...all.flatMap(({ y }) => y ?? []), ...within];
  const range = (values: number[], least: number): [number, number] => {
    const [low, high] = values.length === 0 ? [0, 1] : [Math.min(...values), Math.max(...values)];
    // Points on the edge would be half outside.
    const edge = style === 'points' ? (high - low) * 0.04 : 0;
    const missing = edge + Math.max(0, least - (high - low)) / 2;
    return [low - missing, high + missing];
  };
  const [x0, x1] = range(xs, 1e-9);
  // A constant gets an axis, too; a logarithmic axis spans at least a power of ten.
  const [y0, y1] = range(ys, logarithmic ? 1 : 1e-3);
  const { left, right, top, bottom } = MARGIN;
  const at = {
    x: (x: number) => left + ((x - x0) / (x1 - x0)) * (WIDTH - left - right),
    y: (y: number) => HEIGHT - bottom - ((y - y0) / (y1 - y0)) * (HEIGHT - top - bottom),
  };
  const parts = [text(WIDTH / 2, 22, title, 'text-anchor="middle" font-weight="bold"')];
  for (const { at: value, label } of marks(y0, y1, logarithmic)) {
    const y = at.y(value);
    parts.push(
      line({ x: left, y }, { x: WIDTH - right, y }, GRID),
      text(left - 6, y + 4, label, 'text-anchor="end"'),
    );
  }
  for (const { at: value, label } of marks(x0, x1, false)) {
    parts.push(text(at.x(value), HEIGHT - bottom + 16, label, 'text-anchor="middle"'));
  }
  parts.push(text(WIDTH / 2, HEIGHT - 8, xLabel, 'text-anchor="middle"'));
  if (yLabel !== undefined) {
    const middle = top + (HEIGHT - top - bottom) / 2;
    parts.push(text(14, middle, yLabel, `text-anchor="middle" transform="rotate(-90 14 ${middle})"`));
  }
  for (const { label, points } of lines) {
    const colour = COLOURS[labels.indexOf(label) % COLOURS.length];
    let path = '';
    for (const [k, { x, y }] of points.entries()) {
      if (y === null) continue;
      const joined = k > 0 && points[k - 1]!.y !== null;
      path += `${joined ? 'L' : 'M'}${at.x(x).toFixed(2)} ${at.y(y).toFixed(2)}`;
      if (style === 'points' || points.length <= MOST_MARKED) {
        parts.push(`<circle cx="${at.x(x).toFixed(2)}" cy="${at.y(y).toFixed(2)}" r="3" fill="${colour}"/>`);
      }
    }
    if (style === 'points') continue;
    parts.push(`<path d="${path}" fill="none" stroke="${colour}" stroke-width="1.5"/>`);
  }
  return parts.join('\n');
}

/** The labels of several series beside their colours, right of the panels. */
function drawLegend(labels: readonly string[], left: number): string {
  return labels
    .map((label, i) => {
      const y = MARGIN.top + LEGEND_LINE * i;
      const colour = COLOURS[i % COLOURS.length]!;
      return `${line({ x: left, y }, { x: left + 14, y }, colour, 3)}\n${text(left + LABEL_LEFT, y + 4, shortLabel(label))}`;
    })
    .join('\n');
}

/** Shortens a long label at its beginning, because the ends of paths and names of runs tell them apart. */
function shortLabel(label: string): string {
  return label.length <= LONGEST_LABEL ? label : `...${label.slice(3 - LONGEST_LABEL)}`;
}

/** The panels as SVG, two in a row. */
export function chartSvg(panels: readonly Panel[]): string {
  const columns = Math.min(COLUMNS, panels.length);
  const labels = [...new Set(panels.flatMap(({ series }) => series.map(({ label }) => label)))];
  const named = labels.length > 1;
  const rows = Math.ceil(panels.length / columns);
  const legend = named ? MARGIN.top + LEGEND_LINE * labels.length : 0;
  const longest = Math.min(LONGEST_LABEL, Math.max(0, ...labels.map((label) => label.length)));
  const beside = Math.max(LEGEND, LABEL_LEFT + LEGEND_CHARACTER * (longest + 1));
  const width = columns * WIDTH + (named ? beside : 0);
  const drawn = panels.map((panel, i) => {
    const place = `${(i % columns) * WIDTH} ${Math.floor(i / columns) * HEIGHT}`;
    return `<g transform="translate(${place})">\n${drawPanel(panel, labels)}\n</g>`;
  });
  if (named) drawn.push(drawLegend(labels, columns * WIDTH + 4));
  const title = panels.map((panel) => panel.title).join('; ');
  return svg(title, width, Math.max(rows * HEIGHT, legend), drawn);
}

/**
 * Writes a chart in the format of the name's ending: .svg, or .png, .jpg and .webp at twice its size.
 *
 * @throws OrchestratorError ERR_FILE_WRITE.
 */
export async function writeChart(path: string, panels: readonly Panel[]): Promise<void> {
  await writeDrawing(path, chartSvg(panels));
}
