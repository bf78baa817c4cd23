/** Pages and lines on screens of any width: no number or word is broken, and nothing is lost. */
import { styleText } from 'node:util';
import { expect, test } from 'vitest';
import { fieldLines, foldedPage, screenRows, wrapped } from '../../../src/text/columns.js';

const words = (text: string) => text.split(/\s+/).filter((word) => word !== '');

test('a text in lines', () => {
  expect(wrapped('one two three', 7)).toEqual(['one two', 'three']);
  expect(wrapped('    one two three', 9, '    ')).toEqual(['    one', '    two', '    three']);
  expect(wrapped('a-very-long-word and', 6)).toEqual(['a-very-long-word', 'and']);
});

const page = [
  'checkpoint  runs/x/checkpoints/step-00000200',
  'plan        version 2, seed 7, rows 48, data.validation_rows 8, samples drawn 4000',
  'model.safetensors      4.9 MiB  65 tensors   sha256 59e2ab94f124613e063ee71cbf8c825319145bd78dc2743587c1',
  'ok  cuda       no GPU, which only `device: cuda` needs (no nvidia-smi; no libcuda.so.1)',
  'a sentence that is longer than the screen, and that has no columns at all: 12345 rows of 67890',
].join('\n');

test.each([30, 60, 80, 120, 200])('of a page, no word is broken on a screen of %i columns', (width) => {
  const folded = foldedPage(page, width);
  expect(words(folded)).toEqual(words(page));
  for (const line of folded.split('\n')) {
    expect(line.length <= width || words(line).length === 1, line).toBe(true);
  }
  if (width === 200) expect(folded).toBe(page);
});

test('a line goes on below its last column in the left half, where the words fit there', () => {
  expect(foldedPage(page, 80).split('\n').slice(1, 7)).toEqual([
    'plan        version 2, seed 7, rows 48, data.validation_rows 8, samples drawn',
    '            4000',
    'model.safetensors      4.9 MiB  65 tensors   sha256',
    '  59e2ab94f124613e063ee71cbf8c825319145bd78dc2743587c1',
    'ok  cuda       no GPU, which only `device: cuda` needs (no nvidia-smi; no',
    '               libcuda.so.1)',
  ]);
});

test('colours take no room, and a command to copy stays in one line', () => {
  const line = `${styleText('green', 'ok', { validateStream: false })}  ${'x'.repeat(30)}`;
  expect(foldedPage(line, 34)).toBe(line);
  const next = 'next: orchestrator sample --checkpoint runs/x --rows 0-7 --out preview.png';
  const commands = `commands\n  # worker 0, on localhost\n  ORCHESTRATOR_WORKER_ID=local-0 ${next}`;
  for (const text of [next, commands]) expect(foldedPage(text, 40)).toBe(text);
});

test('what is in backticks is one word', () => {
  const hint = 'hint: go on with `orchestrator launch x.yaml | tee log`, or not; a ` alone is a word';
  const lines = [
    'hint: go on with',
    '  `orchestrator launch x.yaml | tee log`,',
    '  or not; a ` alone is a word',
  ];
  expect(foldedPage(hint, 30).split('\n')).toEqual(lines);
  expect(fieldLines(hint, 30)).toEqual(lines);
});

test('a line of fields is broken between them, and within one only where it is longer than the screen', () => {
  const line = 'validation at step 40 | ema 1.7453 | log_snr=-5.25 0.0091';
  expect(fieldLines(line, 40)).toEqual(['validation at step 40 | ema 1.7453 |', '  log_snr=-5.25 0.0091']);
  expect(fieldLines(line, 100)).toEqual([line]);
  expect(fieldLines('data x: 40 rows to train on, 8 held out', 30)).toEqual([
    'data x: 40 rows to train on, 8',
    '  held out',
  ]);
});

test('each line of a message is broken by itself', () => {
  const message = 'warning ERR_X: step 3 | loss 0.5 | mean 0.4\n  hint: do this | do that';
  expect(fieldLines(message, 30)).toEqual([
    'warning ERR_X: step 3 |',
    '  loss 0.5 | mean 0.4',
    '  hint: do this | do that',
  ]);
  expect(fieldLines(message, 80)).toEqual(message.split('\n'));
});

test('a table has the columns that the screen has room for, and names the others', () => {
  const rows = [
    ['operation', 'count', 'time', 'bound by'],
    ['linear', '27', '0.7 ms', 'matmul'],
  ];
  expect(screenRows(rows, 80)).toEqual([
    'operation  count    time  bound by',
    'linear        27  0.7 ms    matmul',
  ]);
  expect(screenRows(rows, 24)).toEqual([
    'operation  count    time',
    'linear        27  0.7 ms',
    'no room here: bound by (--json has them)',
  ]);
  expect(screenRows(rows, 17).slice(0, 2)).toEqual(['operation  count', 'linear        27']);
});
