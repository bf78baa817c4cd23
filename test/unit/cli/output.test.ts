import { afterEach, expect, test, vi } from 'vitest';
import { printFields, printNote } from '../../../src/cli/output.js';

const NOTE = 'note: the EMA has half of its weight in the last 693 updates, and 2 % in the starting weights';
const FIELDS = 'runs/my-run/checkpoints/step-00000600 | step 600 | rf/lognorm(0,1) | shift 1.6';

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** What is written on a stderr with so many columns; null: it is no terminal. */
function written(columns: number | null, print: () => void): string {
  const texts: string[] = [];
  const write = (text: string) => texts.push(text);
  vi.stubGlobal('process', { ...process, stderr: { write, isTTY: columns !== null, columns } });
  print();
  return texts.join('');
}

test.each([30, 60, 80])('a note on a terminal of %i columns is broken between words', (columns) => {
  const lines = written(columns, () => printNote(NOTE))
    .trimEnd()
    .split('\n');
  expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(columns);
  expect(lines.map((line) => line.trim()).join(' ')).toBe(NOTE);
  const fields = written(columns, () => printFields(FIELDS, process.stderr))
    .trimEnd()
    .split('\n');
  expect(fields.map((line) => line.trim()).join(' ')).toBe(FIELDS);
  // Paths are whole, even where they are longer than a line.
  expect(fields.filter(({ length }) => length > columns)).toHaveLength(columns === 30 ? 1 : 0);
});

test('in a file it is one line', () => {
  expect(written(null, () => printNote(NOTE))).toBe(`${NOTE}\n`);
  expect(written(null, () => printFields(FIELDS, process.stderr))).toBe(`${FIELDS}\n`);
});
