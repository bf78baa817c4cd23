/** The kinds of panels as pieces of SVG, each within a box. */
import type { Panel } from '../board.js';
import type { Answers, Line } from './answers.js';
import { linear, logarithmic, type Scale, unitOf, widened, withUnit } from './scale.js';
import { colourOf, GRID, INK, line, NAMED, place, rectangle, SMALL, text, viridis, widthOf } from './svg.js';

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

const LEFT = 66;
const AXIS = 18;
const LEGEND_LINE = 15;
const LEGEND_LINES = 2;
/** The bar of a heat map's colours, what is left and right of it, and the size of its labels. */
const BAR = { width: 10, left: 10, right: 4, label: 9 };

export function stat(panel: Panel, lines: readonly Line[], { span }: Answers, box: Box): string {
  const last = lines.flatMap(({ name, run, points }) => {
    const [time, value] = points.at(-1) ?? [0, 0];
    if (time < span.to - 1.5 * span.step) return [];
    return [{ run, big: panel.names ? name.replace(`${run} `, '') : withUnit(value, panel.unit) }];
  });
  const width = box.width / Math.max(1, last.length);
  const longest = Math.max(...last.map(({ big }) => big.length));
  const size = Math.min(20, (0.86 * width) / (0.7 * longest));
  return last
    .map(({ run, big }, i) => {
      const middle = box.x + (i + 0.5) * width;
      return (
        text(middle, box.y + 0.48 * box.height, big, { size, anchor: 'middle', colour: colourOf(i) }) +
        text(middle, box.y + 0.84 * box.height, run, { anchor: 'middle' })
      );
    })
    .join('');
}

/** Lines over time, or areas on each other. */
export function lines(panel: Panel, series: readonly Line[], { span, marks }: Answers, box: Box): string {
  const stacked = panel.kind === 'stack';
  const drawn = stacked ? pileUp(series) : series.map((of) => ({ ...of, base: null }));
  const values = drawn.flatMap(({ points }) => points.map(([, value]) => value)).filter(Number.isFinite);
  if (values.length === 0) return empty(box);
  const plot = {
    x: box.x + LEFT,
    y: box.y + 4,
    width: box.width - LEFT - 8,
    height: box.height - AXIS - 4 - LEGEND_LINES * LEGEND_LINE,
  };
  const across = linear([span.from, span.to], plot.x, plot.x + plot.width, 6);
  const up = valueScale(panel, values, stacked, plot);
  const clip = (y: number) => Math.min(plot.y + plot.height, Math.max(plot.y, y));
  const paths = drawn.map(({ points, base }, i) => {
    const d = pieces(points, span.step).map((piece) => {
      const top = piece.map(([time, value]) => `${place(across.at(time))},${place(clip(up.at(value)))}`);
      if (base === null) return `M${top.join('L')}`;
      const under = piece
        .map(([time]) => `${place(across.at(time))},${place(clip(up.at(base.get(time) ?? 0)))}`)
        .reverse();
      return `M${[...top, ...under].join('L')}Z`;
    });
    const look = stacked ? `fill="${colourOf(i)}" fill-opacity="0.75"` : `fill="none" stroke-width="1.4"`;
    return `<path d="${d.join('')}" stroke="${colourOf(i)}" ${look}/>`;
  });
  const limits = (panel.thresholds ?? []).map(({ from, colour }) => {
    const y = up.at(from);
    return y < plot.y
      ? ''
      : line(plot.x, y, plot.x + plot.width, y, `stroke="${NAMED[colour]}" stroke-dasharray="6 4"`);
  });
  const flags = marks.map(({ annotation, time }) => {
    const x = across.at(time);
    const colour = NAMED[annotation.colour];
    return line(
      x,
      plot.y,
      x,
      plot.y + plot.height,
      `stroke="${colour}" stroke-opacity="${annotation.colour === 'blue' ? 0.35 : 0.9}" stroke-dasharray="2 3"`,
    );
  });
  return [
    ...axes(panel, up, plot),
    timeAxis(span, across, plot),
    ...flags,
    ...paths,
    ...limits,
    legend(
      drawn.map(({ name }) => name),
      { ...plot, x: box.x + 10, width: box.width - 16, y: plot.y + plot.height + AXIS, height: 0 },
    ),
  ].join('');
}

/** A row for each series, whose colour shows its value. */
export function heat(panel: Panel, series: readonly Line[], { span }: Answers, box: Box): string {
  const values = series.flatMap(({ points }) => points.map(([, value]) => value)).filter(Number.isFinite);
  if (values.length === 0) return empty(box);
  // A few outliers must not make all others one colour.
  values.sort((a, b) => a - b);
  const [low, high] = [values[0]!, values[Math.floor(0.99 * (values.length - 1))]!];
  const names = series.map(({ name }) => name);
  const left = Math.min(0.35 * box.width, 12 + Math.max(...names.map((name) => widthOf(name, 9))));
  const ends = [
    `${high < values.at(-1)! ? '> ' : ''}${withUnit(high, panel.unit)}`,
    withUnit(low, panel.unit),
  ];
  const right = Math.max(...ends.map((end) => widthOf(end, BAR.label)));
  const plot = {
    x: box.x + left,
    y: box.y + 4,
    width: box.width - left - BAR.left - BAR.width - BAR.right - right - 8,
    height: box.height - AXIS - 8,
  };
  const across = linear([span.from, span.to], plot.x, plot.x + plot.width, 5);
  const rowHeight = plot.height / series.length;
  const cell = (span.step / (span.to - span.from)) * plot.width + 0.6;
  const every = Math.ceil(10 / rowHeight);
  const rows = series.map(({ name, points }, i) => {
    const y = plot.y + (series.length - 1 - i) * rowHeight;
    const cells = points
      .filter(([, value]) => Number.isFinite(value))
      .map(([time, value]) =>
        rectangle(
          across.at(time),
          y,
          Math.min(cell, plot.x + plot.width - across.at(time)),
          rowHeight + 0.3,
          `fill="${viridis((value - low) / (high - low || 1))}"`,
        ),
      );
    const label =
      i % every > 0 ? '' : text(plot.x - 5, y + rowHeight / 2 + 3, name, { size: 9, anchor: 'end' });
    return label + cells.join('');
  });
  const bar = { x: plot.x + plot.width + BAR.left, y: plot.y, width: BAR.width, height: plot.height };
  const label = (end: string, y: number) => text(bar.x + bar.width + BAR.right, y, end, { size: BAR.label });
  const shades = Array.from({ length: 32 }, (_, i) =>
    rectangle(
      bar.x,
      bar.y + (bar.height * i) / 32,
      bar.width,
      bar.height / 32 + 0.5,
      `fill="${viridis(1 - (i + 0.5) / 32)}"`,
    ),
  );
  return [
    ...rows,
    timeAxis(span, across, plot),
    ...shades,
    label(ends[0]!, bar.y + 9),
    label(ends[1]!, bar.y + bar.height),
  ].join('');
}

function valueScale(panel: Panel, values: readonly number[], fromZero: boolean, plot: Box): Scale {
  const positive = values.filter((value) => value > 0);
  const [bottom, top] = [plot.y + plot.height, plot.y + 2];
  if (panel.logarithmic && positive.length > 0)
    return logarithmic([Math.min(...positive) / 1.2, Math.max(...positive) * 1.2], bottom, top);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  // An axis that would begin just above 0 begins there.
  const first = fromZero || (low > 0 && low < 0.3 * high) ? 0 : low;
  return linear(widened([first, high]), bottom, top, 4, unitOf(values, panel.unit));
}

function axes(panel: Panel, up: Scale, plot: Box): string[] {
  return up.ticks.map(
    (value) =>
      line(plot.x, up.at(value), plot.x + plot.width, up.at(value), `stroke="${GRID}"`) +
      text(plot.x - 6, up.at(value) + 4, withUnit(value, panel.unit), { size: 9, anchor: 'end' }),
  );
}

/** Minutes since the beginning of the span. */
function timeAxis({ from, to }: Answers['span'], across: Scale, plot: Box): string {
  const minutes = (to - from) / 60;
  const step = [0.5, 1, 2, 5, 10, 30, 60].find((each) => minutes / each <= 8) ?? 120;
  const ticks = Array.from({ length: Math.floor(minutes / step) + 1 }, (_, i) => i * step);
  const below = plot.y + plot.height;
  return (
    line(plot.x, below, plot.x + plot.width, below, `stroke="${INK}" stroke-opacity="0.5"`) +
    ticks
      .map((minute) =>
        text(across.at(from + 60 * minute), below + 13, minute === 0 ? '0 min' : String(minute), {
          size: 9,
          anchor: 'middle',
        }),
      )
      .join('')
  );
}

/** Names in at most two lines, and how many more there are. */
function legend(names: readonly string[], box: Box): string {
  const pieces: string[] = [];
  let [x, row] = [box.x, 0];
  for (const [i, name] of names.entries()) {
    const width = widthOf(name, 10) + 22;
    const rest = `and ${names.length - i} more`;
    const last = row === LEGEND_LINES - 1;
    const reserve = last && i < names.length - 1 ? widthOf(rest, 10) : 0;
    if (x + width + reserve > box.x + box.width) {
      if (last) {
        pieces.push(text(x, box.y + row * LEGEND_LINE + 11, rest, { size: 10 }));
        break;
      }
      [x, row] = [box.x, row + 1];
    }
    const y = box.y + row * LEGEND_LINE;
    pieces.push(
      rectangle(x, y + 5, 10, 4, `fill="${colourOf(i)}"`),
      text(x + 14, y + 11, name, { size: 10 }),
    );
    x += width;
  }
  return pieces.join('');
}

/** Areas on each other: the sum up to each series, and that below it. */
function pileUp(series: readonly Line[]): (Line & { base: Map<number, number> })[] {
  const sum = new Map<number, number>();
  return series.map(({ name, run, points }) => {
    const base = new Map(sum);
    for (const [time, value] of points) sum.set(time, (sum.get(time) ?? 0) + value);
    return { name, run, base, points: points.map(([time]): [number, number] => [time, sum.get(time)!]) };
  });
}

/** Points without gaps: a missing value interrupts a line. */
function pieces(points: Line['points'], step: number): Line['points'][] {
  const found: Line['points'][] = [];
  let before = Number.NEGATIVE_INFINITY;
  for (const [time, value] of points) {
    if (!Number.isFinite(value)) continue;
    if (time - before > 1.5 * step) found.push([]);
    found.at(-1)!.push([time, value]);
    before = time;
  }
  return found;
}

function empty(box: Box): string {
  return text(box.x + box.width / 2, box.y + box.height / 2, 'no data', { size: SMALL, anchor: 'middle' });
}
