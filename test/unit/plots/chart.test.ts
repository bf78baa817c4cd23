import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { chartSvg, type Panel, ticks, writeChart } from '../../../src/plots/chart.js';
import { temporaryFolder } from '../../support/folders.js';

const panel = (points: Panel['series'][number]['points'], logarithmic = false): Panel => ({
  title: 'a < b',
  xLabel: 't',
  logarithmic,
  series: [{ label: 'one', points }],
});
const linesOf = (svg: string) => [...svg.matchAll(/<path d="([^"]*)"/g)].map(([, path]) => path);
const textsOf = (svg: string) => [...svg.matchAll(/<text[^>]*>([^<]*)</g)].map(([, text]) => text);

describe('charts', () => {
  test.each([
    [0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]],
    [-14, 14, [-10, 0, 10]],
    [0.03, 0.05, [0.03, 0.035, 0.04, 0.045, 0.05]],
    [0, 999, [0, 200, 400, 600, 800]],
  ])('marks from %f to %f', (low, high, expected) => {
    expect(ticks(low, high)).toEqual(expected);
  });

  test('lines are interrupted where there is no value, and go up', () => {
    const points = [0, 1, null, 3, 4].map((y, x) => ({ x, y }));
    const [path] = linesOf(chartSvg([panel(points)]));
    expect(path!.match(/[ML]/g)).toEqual(['M', 'L', 'M', 'L']);
    const ys = [...path!.matchAll(/ ([\d.]+)/g)].map(([, y]) => Number(y));
    expect(ys).toEqual([...ys].sort((a, b) => b - a));
  });

  test('a logarithmic axis has powers of ten, and leaves out what has no logarithm', () => {
    const svg = chartSvg([
      panel(
        [0, 0.01, 1, 100].map((y, x) => ({ x, y })),
        true,
      ),
    ]);
    expect(linesOf(svg)[0]!.match(/[ML]/g)).toEqual(['M', 'L', 'L']);
    expect(textsOf(svg)).toContain('1e-2');
    expect(textsOf(svg)).toContain('1e2');
  });

  test('a constant, and nothing at all, have an axis', () => {
    for (const points of [[{ x: 0.5, y: 1 }], []])
      expect(chartSvg([panel(points)])).not.toMatch(/NaN|Infinity/);
  });

  test('several lines are named, texts are escaped', () => {
    const points = [0, 1].map((x) => ({ x, y: x }));
    const two = { ...panel(points), series: ['first', 'R&D'].map((label) => ({ label, points })) };
    const texts = textsOf(chartSvg([two]));
    expect(texts).toEqual(expect.arrayContaining(['a &#60; b', 'first', 'R&#38;D']));
    expect(textsOf(chartSvg([panel(points)]))).not.toContain('one');
  });

  test('labels beside the panels have room, and of one that is too long the end stays', () => {
    const points = [0, 1].map((x) => ({ x, y: x }));
    const svgOf = (...labels: string[]) =>
      chartSvg([{ ...panel(points), series: labels.map((label) => ({ label, points })) }]);
    const widthOf = (svg: string) => Number(/width="(\d+)"/.exec(svg)![1]);
    const long = `runs/${'x'.repeat(40)}/lr-0.003`;
    // DejaVu Sans has digits of 7 units at this size.
    expect(widthOf(svgOf('one', long)) - widthOf(svgOf('one', 'two'))).toBe(7 * (long.length + 1) + 20 - 150);
    const shown = textsOf(svgOf('one', `${'y'.repeat(80)}-end`)).at(-1)!;
    expect(shown).toMatch(/^\.\.\.y+-end$/);
    expect(shown).toHaveLength(60);
  });

  test('one label has one colour in all panels, and is named once', () => {
    const points = [0, 1].map((x) => ({ x, y: x }));
    const of = (...labels: string[]) => ({
      ...panel(points),
      series: labels.map((label) => ({ label, points })),
    });
    const svg = chartSvg([of('a', 'b'), of('b', 'c')]);
    const colours = [...svg.matchAll(/<path [^>]*stroke="([^"]*)"/g)].map(([, colour]) => colour);
    expect(colours[1]).toBe(colours[2]);
    expect(new Set(colours).size).toBe(3);
    expect(textsOf(svg).filter((text) => text === 'b')).toHaveLength(1);
  });

  test('points are not joined; those of a line are marked where they are few', () => {
    const points = (count: number) => Array.from({ length: count }, (_, x) => ({ x, y: x }));
    const svg = chartSvg([{ ...panel(points(3)), style: 'points', yLabel: 'score' }]);
    expect(linesOf(svg)).toEqual([]);
    expect(svg.match(/<circle/g)).toHaveLength(3);
    expect(textsOf(svg)).toContain('score');
    const few = chartSvg([panel(points(4))]);
    expect([few.match(/<circle/g), linesOf(few)]).toEqual([
      expect.objectContaining({ length: 4 }),
      [expect.any(String)],
    ]);
    expect(chartSvg([panel(points(40))])).not.toContain('<circle');
  });

  test('an axis reaches what it has to, and a short logarithmic one is marked at 1, 2 and 5', () => {
    const points = [0, 1].map((x) => ({ x, y: 0 }));
    expect(textsOf(chartSvg([{ ...panel(points), within: [0, 100] }]))).toContain('100');
    const close = [30, 200].map((y, x) => ({ x, y }));
    const texts = textsOf(chartSvg([panel(close, true)]));
    expect(texts).toEqual(expect.arrayContaining(['50', '100', '200']));
    expect(texts).not.toContain('1e2');
  });

  test('are written as SVG and as a picture, over what was there', async () => {
    const folder = temporaryFolder();
    const panels = Array.from({ length: 3 }, () => panel([0, 1].map((x) => ({ x, y: x }))));
    for (let i = 0; i < 2; i++) {
      for (const name of ['chart.svg', 'chart.png']) await writeChart(join(folder, 'in', name), panels);
    }
    expect(readFileSync(join(folder, 'in/chart.svg'), 'utf8')).toMatch(
      /^<svg .*width="840" height="600".*>\n<title>\w/,
    );
    const image = sharp(join(folder, 'in/chart.png'));
    expect(await image.metadata()).toMatchObject({ width: 1680, height: 1200, format: 'png' });
    const empty = sharp(Buffer.from(chartSvg([panel([])]).replace(/<text.*<\/text>/g, '')), { density: 144 });
    expect((await image.stats()).entropy).toBeGreaterThan((await empty.stats()).entropy);
    rmSync(join(folder, 'in'), { recursive: true });
    await expect(writeChart('/proc/none/chart.png', panels)).rejects.toMatchObject({
      code: 'ERR_FILE_WRITE',
    });
  });
});
