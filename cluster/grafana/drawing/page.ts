/** A dashboard drawn from the answers to its queries, for the guide: SVG, in the layout of Grafana's JSON. */
import type { Board, Panel } from '../board.js';
import { placePanels } from '../layout.js';
import { annotations } from '../queries/annotations.js';
import type { Answers, Line } from './answers.js';
import { type Box, heat, lines, stat } from './charts.js';
import { FRAME, INK, rectangle, TITLE_SIZE, text } from './svg.js';

/** Width and height of one unit of Grafana's grid, in pixels. */
const COLUMN = 52;
const HEIGHT = 27;
const GAP = 6;
const MARGIN = 14;
const HEAD = 48;
const TITLE = 24;

export const CAPTION =
  "drawn by this project from the queries' answers; no Grafana server has drawn these dashboards";

const MARKS = `dotted: ${annotations.map(({ name, colour }) => `${name.toLowerCase()} ${colour}`).join(', ')}`;

export function drawBoard(board: Board, answers: Answers): string {
  const { rows, panels, height } = placePanels(board);
  const width = 2 * MARGIN + 24 * COLUMN - GAP;
  const tall = HEAD + height * HEIGHT + MARGIN;
  const at = (x: number, y: number) => [MARGIN + x * COLUMN, HEAD + y * HEIGHT] as const;
  const parts = [
    rectangle(0, 0, width, tall, 'fill="#f4f5f6"'),
    text(MARGIN + 2, 29, board.title, { size: 18, colour: INK }),
    text(width - MARGIN - 2, 20, CAPTION, { anchor: 'end' }),
    text(width - MARGIN - 2, 37, MARKS, { anchor: 'end' }),
  ];
  for (const { row, y } of rows) {
    const [left, top] = at(0, y);
    parts.push(text(left + 2, top + 19, row.title, { size: 13, colour: INK }));
  }
  for (const { panel, x, y, w, h } of panels) {
    const all = panel.queries.flatMap((query) => answers.lines.get(query) ?? []);
    // Grafana repeats such a panel for each run, with two beside each other.
    const runs = panel.byRun ? [...new Set(all.map(({ run }) => run))].slice(0, 2) : [];
    const each = runs.length === 0 ? [all] : runs.map((run) => all.filter((of) => of.run === run));
    for (const [i, series] of each.entries()) {
      const [left, top] = at(x + (i * w) / each.length, y);
      const box = { x: left, y: top, width: (w / each.length) * COLUMN - GAP, height: h * HEIGHT - GAP };
      const title = panel.title.replace('$run', series[0]?.run ?? '');
      parts.push(
        rectangle(box.x, box.y, box.width, box.height, `fill="#ffffff" stroke="${FRAME}" rx="3"`),
        text(box.x + 10, box.y + 17, title, { size: TITLE_SIZE, colour: INK }),
        drawPanel(panel, series, answers, { ...box, y: box.y + TITLE, height: box.height - TITLE }),
      );
    }
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${tall}" font-family="DejaVu Sans">${parts.join('')}</svg>`;
}

function drawPanel(panel: Panel, series: readonly Line[], answers: Answers, box: Box): string {
  if (panel.kind === 'stat') return stat(panel, series, answers, box);
  if (panel.kind === 'heat') return heat(panel, series, answers, box);
  return lines(panel, series, answers, box);
}
