import { expect, test } from 'vitest';
import { Curve } from '../../../src/run-folder/curve.js';

const MOST = 400;

function curveOf(count: number) {
  const curve = new Curve(MOST);
  for (let step = 1; step <= count; step++) curve.add({ step, loss: step % 2 === 0 ? step : -step });
  return curve.points;
}

test('a few values are their own points', () => {
  expect(curveOf(3)).toEqual([
    { step: 1, loss: -1 },
    { step: 2, loss: 2 },
    { step: 3, loss: -3 },
  ]);
  expect(curveOf(0)).toEqual([]);
});

test.each([399, 400, 401, 12_345, 500_000])('%i values are means over neighbours', (count) => {
  const points = curveOf(count);
  expect(points.length).toBeLessThanOrEqual(MOST);
  expect(points.length).toBeGreaterThanOrEqual(Math.min(count, MOST / 2));
  expect(points.at(-1)!.step).toBe(count);
  let before = 0;
  for (const { step, loss } of points) {
    let sum = 0;
    for (let each = before + 1; each <= step; each++) sum += each % 2 === 0 ? each : -each;
    expect(loss).toBeCloseTo(sum / (step - before), 6);
    before = step;
  }
});
