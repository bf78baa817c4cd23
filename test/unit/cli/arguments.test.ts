import { describe, expect, test } from 'vitest';
import { latentSides, nodeRange, rowNumbers, targetsFile, timeLimit } from '../../../src/cli/arguments.js';

describe('rowNumbers', () => {
  test.each([
    ['7', [7]],
    ['0,1, 2', [0, 1, 2]],
    ['5-7,2', [5, 6, 7, 2]],
    ['3-3', [3]],
  ])('%s', (text, rows) => {
    expect(rowNumbers(text)).toEqual(rows);
  });

  test.each(['', '1,', 'a', '-1', '3-1', '1.5', '0-1000000000000', '0-9999,0'])('refuses "%s"', (text) => {
    expect(() => rowNumbers(text)).toThrow(/such as 0,1,2 or 0-7/);
  });
});

test('nodeRange', () => {
  expect(nodeRange('4')).toEqual({ min: null, max: 4 });
  expect(nodeRange('1:4')).toEqual({ min: 1, max: 4 });
  for (const text of ['4:1', '1:2:3', '0:2', ':', '1:', 'a'])
    expect(() => nodeRange(text)).toThrow(/^Expected a (whole )?number/);
});

test('targetsFile', () => {
  for (const path of ['targets/one.json', 'a.yml', 'a.yaml']) expect(targetsFile(path)).toBe(path);
  for (const path of ['targets/one', 'a.jsonl', 'a.json.tmp', ''])
    expect(() => targetsFile(path)).toThrow(/end in \.json/);
});

test('latentSides', () => {
  expect(latentSides('64x96')).toEqual([64, 96]);
  for (const text of ['64', '0x64', '64x', '64 x 64', '1e3x2'])
    expect(() => latentSides(text)).toThrow(/64x64/);
});

describe('timeLimit', () => {
  test.each([
    ['2h', 7200],
    ['90m', 5400],
    ['1h30m', 5400],
    ['1.5h', 5400],
    ['1h30m15s', 5415],
    ['45s', 45],
    ['45', 45],
    ['0.2', 0.2],
  ])('%s', (text, seconds) => expect(timeLimit(text)).toBe(seconds));

  test.each(['', '0', '0h', '-1h', 'soon', '1d', '30m1h', '1 h'])('refuses "%s"', (text) => {
    expect(() => timeLimit(text)).toThrow(/such as 90m, 2h/);
  });
});
