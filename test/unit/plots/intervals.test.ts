import { describe, expect, test } from 'vitest';
import { intervalsSvg } from '../../../src/plots/intervals.js';

const numbersOf = (svg: string, pattern: RegExp) =>
  [...svg.matchAll(pattern)].map((found) => found.slice(1).map(Number));

describe('values with their intervals', () => {
  const rows = [
    { label: 'a < b', value: 2, interval: { low: 1, high: 4 }, other: 3 },
    { label: 'alone', value: 5, interval: null, other: null },
  ];
  const svg = intervalsSvg('ranks', 'rank', rows);

  test('lie where an axis of all numbers has them', () => {
    const points = numbersOf(svg, /<circle cx="([\d.]+)" cy="([\d.]+)" r="3.5"/g);
    expect(points).toHaveLength(3);
    const [[value, y], [other], [alone, below]] = points as [number[], number[], number[]];
    const [[x1, , x2]] = numbersOf(
      svg,
      /<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)"[^>]*stroke-width="2"/g,
    ) as [number[]];
    // 1, 2, 3, 4 and 5 are equally far apart.
    const unit = (alone! - x1!) / 4;
    expect([value! - x1!, other! - x1!, x2! - x1!].map((distance) => distance / unit)).toEqual([
      expect.closeTo(1, 2),
      expect.closeTo(2, 2),
      expect.closeTo(3, 2),
    ]);
    expect(below).toBeGreaterThan(y!);
  });

  test('have their names, escaped, and one line to a row', () => {
    expect(svg).toContain('>a &#60; b<');
    expect(svg).toContain('>alone<');
    const height = (count: number) =>
      numbersOf(intervalsSvg('', '', rows.slice(0, count)), /height="(\d+)" font/g)[0]![0]!;
    expect(height(2) - height(1)).toBe(16);
  });

  test('a single value, and none, have an axis', () => {
    for (const some of [rows.slice(1), []]) expect(intervalsSvg('', '', some)).not.toMatch(/NaN|Infinity/);
  });
});
