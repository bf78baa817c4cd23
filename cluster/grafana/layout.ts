/** Where the panels of a dashboard lie on Grafana's grid of 24 columns. */
import type { Board, Panel, Row } from './board.js';

export const COLUMNS = 24;
const HEIGHT = { stat: 4, line: 8, stack: 8, heat: 8 };
export const ROW_HEIGHT = 1;

export interface PlacedRow {
  row: Row;
  y: number;
}

export interface PlacedPanel {
  panel: Panel;
  row: Row;
  x: number;
  y: number;
  w: number;
  h: number;
}

/** From left to right, then from top to bottom. Panels that stand side by side are of one height. */
export function placePanels(board: Board): { rows: PlacedRow[]; panels: PlacedPanel[]; height: number } {
  const rows: PlacedRow[] = [];
  const panels: PlacedPanel[] = [];
  let y = 0;
  for (const row of board.rows) {
    rows.push({ row, y });
    y += ROW_HEIGHT;
    let x = 0;
    let h = 0;
    for (const panel of row.panels) {
      if (x + panel.width > COLUMNS) {
        y += h;
        x = 0;
      }
      h = HEIGHT[panel.kind];
      panels.push({ panel, row, x, y, w: panel.width, h });
      x += panel.width;
    }
    y += h;
  }
  return { rows, panels, height: y };
}
