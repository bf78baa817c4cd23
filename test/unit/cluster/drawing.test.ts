import { describe, expect, test } from 'vitest';
import type { Query } from '../../../cluster/grafana/board.js';
import { BOARDS } from '../../../cluster/grafana/boards/all.js';
import type { Answers, Line } from '../../../cluster/grafana/drawing/answers.js';
import { CAPTION, drawBoard } from '../../../cluster/grafana/drawing/page.js';
import { linear, logarithmic, unitOf, widened, withUnit } from '../../../cluster/grafana/drawing/scale.js';
import { widthOf } from '../../../cluster/grafana/drawing/svg.js';
import { annotations } from '../../../cluster/grafana/queries/annotations.js';

describe('axes', () => {
  test('ticks are round and within the range', () => {
    expect(linear([0, 1], 0, 100, 4).ticks).toEqual([0, 0.5, 1]);
    expect(linear([3, 47], 0, 100, 4).ticks).toEqual([20, 40]);
    expect(logarithmic([0.05, 30], 0, 100).ticks).toEqual([0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]);
    // Within a decade, those of a linear axis.
    expect(logarithmic([2.2, 4], 0, 100).ticks).toEqual([2.5, 3, 3.5, 4]);
  });

  test('of bytes, ticks are round in the largest unit', () => {
    const values = [300 * 2 ** 20, 900 * 2 ** 20];
    const { ticks } = linear([values[0]!, values[1]!], 0, 1, 4, unitOf(values, 'bytes'));
    expect(ticks.map((tick) => withUnit(tick, 'bytes'))).toEqual(['400 MiB', '600 MiB', '800 MiB']);
  });

  test('an empty range is widened around its value', () => {
    const { at, ticks } = linear(widened([7, 7]), 0, 100, 4);
    expect(at(7)).toBeCloseTo(50);
    expect(ticks.length).toBeGreaterThan(1);
    expect(linear(widened([0, 0]), 0, 100, 4).at(0)).toBeCloseTo(0);
    expect(widened([1, 2])).toEqual([1, 2]);
  });

  test('values in their units', () => {
    expect([
      withUnit(0.1234, 'percentunit'),
      withUnit(0.0213, 's'),
      withUnit(4.26, 's'),
      withUnit(4000, 's'),
      withUnit(12_345, 'none'),
      withUnit(0.00012, 'short'),
      withUnit(2.5, 'suffix:nats'),
    ]).toEqual(['12.3 %', '21.3 ms', '4.26 s', '1 h 7 min', '12,345', '1.2e-4', '2.5 nats']);
  });
});

describe.each(BOARDS.map((board) => [board.title, board] as const))('%s', (_, board) => {
  const span = { from: 1000, to: 1600, step: 10 };
  const draw = (series: (query: Query) => Line[]) => {
    const queries = board.rows.flatMap(({ panels }) => panels.flatMap((panel) => panel.queries));
    const lines = new Map(queries.map((query) => [query, series(query)]));
    const marks: Answers['marks'] = [{ annotation: annotations[0]!, time: 1200 }];
    return drawBoard(board, { span, lines, marks });
  };

  test('time goes from left to right over the whole width', () => {
    const late = { from: 1_795_688_000, to: 1_795_688_400, step: 4 };
    const query = board.rows.flatMap(({ panels }) => panels).find(({ kind }) => kind === 'line')!.queries[0]!;
    const points = [late.from, late.from + 4, late.to].map((time): [number, number] => [time, 1]);
    const svg = drawBoard(board, {
      span: late,
      lines: new Map([[query, [{ name: 'a', run: 'a', points }]]]),
      marks: [{ annotation: annotations[0]!, time: late.to }],
    });
    const [first] = svg
      .match(/<path d="M([\d.]+),/)!
      .slice(1)
      .map(Number);
    const [last] = svg
      .match(/<line x1="([\d.]+)"[^>]*stroke-dasharray="2 3"/)!
      .slice(1)
      .map(Number);
    expect(last! - first!).toBeGreaterThan(200);
  });

  test('every panel is drawn, with the caption, and every coordinate is a number', () => {
    const svg = draw(() =>
      ['a', 'b'].map((run, r) => ({
        name: `${run} 1 < 2`,
        run,
        // A gap, and a value that is not a number.
        points: [1000, 1010, 1020, 1300, 1310, 1600].map((time, i) => [time, i === 1 ? Number.NaN : i + r]),
      })),
    );
    expect(svg).toContain(CAPTION);
    expect(svg).not.toMatch(/NaN|Infinity|undefined|no data/);
    expect(svg).not.toContain('1 < 2');
    for (const { title, byRun } of board.rows.flatMap(({ panels }) => panels)) {
      expect(svg).toContain(title.replace('$run', 'a'));
      if (byRun) expect(svg).toContain(title.replace('$run', 'b'));
    }
  });

  test('nothing reaches beyond the right edge of its panel', () => {
    // Large values, in the widest form of each unit.
    const svg = draw(() => [
      {
        name: 'a 00',
        run: 'a',
        points: [1000, 1010, 1020, 1600].map((time, i) => [time, 2.9412345 * (i + 1)]),
      },
      { name: 'a 01', run: 'a', points: [[1000, 1234.5678]] },
    ]);
    let edge = 0;
    for (const [, shape, attributes] of svg.matchAll(/<(rect|text) ([^>]*>[^<]*)/g)) {
      const number = (name: string) => Number(new RegExp(`(?:^| )${name}="([\\d.]+)"`).exec(attributes!)![1]);
      if (attributes!.includes('rx="3"')) edge = number('x') + number('width');
      else if (shape === 'text' && /font-size="(9|10)".*"start"/.test(attributes!) && edge > 0) {
        const content = attributes!.slice(attributes!.indexOf('>') + 1);
        expect(number('x') + widthOf(content, number('font-size')), content).toBeLessThanOrEqual(edge);
      }
    }
    expect(edge).toBeGreaterThan(0);
  });

  test('a panel without an answer says so', () => {
    expect(draw(() => [])).toContain('no data');
  });
});
