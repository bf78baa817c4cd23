import { appendFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { completeLines } from '../../../src/files/jsonl.js';
import { lastStep, linesFromEnd, offsetOfStep } from '../../../src/files/jsonl-seek.js';
import { temporaryFolder } from '../../support/folders.js';

const folder = temporaryFolder();
const STEP = /^{"type":"step","step":(\d+),/;

/** Some 2,000 steps with lines of all lengths between them, damaged ones too, and half a line at the end. */
function metrics(): string {
  const path = join(folder, 'metrics.jsonl');
  const lines: string[] = [];
  for (let step = 3; step < 6000; step += 3) {
    lines.push(`{"type":"step","step":${step},"note":"${'ä'.repeat((step * 7919) % 300)}"}`);
    if (step % 7 === 0) lines.push(`{"type":"checkpoint","step":${step - 2}}`);
    if (step % 100 === 0) lines.push('x'.repeat(step * 60), '');
  }
  writeFileSync(path, `${lines.join('\n')}\n{"type":"step","step":9999,`);
  return path;
}

test('lines from the end are those from the beginning, whatever their lengths', () => {
  const path = metrics();
  const forward = [...completeLines(path)];
  const backward = [...linesFromEnd(path)].reverse();
  expect(backward.map(({ line, end }) => ({ line, end }))).toEqual(forward);
  expect(backward.map(({ start }) => start)).toEqual([0, ...forward.slice(0, -1).map(({ end }) => end)]);
  const { end } = forward[700]!;
  expect([...linesFromEnd(path, end)].map(({ line }) => line)).toEqual(
    forward
      .slice(0, 701)
      .map(({ line }) => line)
      .reverse(),
  );
});

test('of a file without a complete line, or that is missing, there are none', () => {
  const path = join(folder, 'half.jsonl');
  writeFileSync(path, '{"step":1');
  expect([...linesFromEnd(path)]).toEqual([]);
  writeFileSync(path, '');
  expect([...linesFromEnd(path)]).toEqual([]);
  expect([...linesFromEnd(join(folder, 'missing.jsonl'))]).toEqual([]);
});

test('the offset of a step is that of its line, or of the next one, or of the end', () => {
  const path = metrics();
  let before = 0;
  const offsets = [...completeLines(path)].flatMap(({ line, end }) => {
    const start = before;
    before = end;
    const step = STEP.exec(line)?.[1];
    return step === undefined ? [] : [{ step: Number(step), start }];
  });
  for (let step = 1; step < 6100; step += 13) {
    const expected = offsets.find((each) => each.step >= step)?.start ?? before;
    expect(offsetOfStep(path, step, STEP), `step ${step}`).toBe(expected);
  }
  expect(offsetOfStep(join(folder, 'missing.jsonl'), 1, STEP)).toBe(0);
});

test('only the end of a file of a terabyte is read', () => {
  const path = join(folder, 'ledger.jsonl');
  writeFileSync(path, '');
  truncateSync(path, 2 ** 40);
  appendFileSync(path, '\n{"step":41,"slots":[]}\n{"step":42,"slots":[]}\n{"st');
  expect(lastStep(path)).toBe(42);
});
