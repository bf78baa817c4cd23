import { describe, expect, test } from 'vitest';
import { ERRORS, type ErrorCode } from '../../../src/errors.js';
import { ENDS, endsRun } from '../../../src/rule/failures.js';

/** One of several workers that all hold the state. */
const MEMBER = { ownAccord: false, begun: true, holds: true, others: 2, othersHold: true };
const JOINER = { ...MEMBER, holds: false };

test('every error of this program is in the table', () => {
  expect(Object.keys(ENDS)).toEqual(Object.keys(ERRORS));
});

describe('one of several workers', () => {
  test.each<ErrorCode>([
    'ERR_CUDA',
    'ERR_OUT_OF_MEMORY',
    'ERR_SYSTEM',
    'ERR_EXCHANGE',
    'ERR_SHARED_MEMORY',
    'ERR_ISA',
  ])('with %s ends alone', (code) => {
    expect(endsRun(code, MEMBER)).toBe(false);
  });

  test.each<ErrorCode>([
    'ERR_CONFIG',
    'ERR_NON_FINITE',
    'ERR_DATA_HASH',
    'ERR_FILE_OPEN',
    'ERR_CHECKPOINT_DAMAGED',
    'ERR_INTERNAL',
  ])('with %s ends the run', (code) => {
    expect(endsRun(code, MEMBER)).toBe(true);
  });
});

test('one that has never held the state ends alone, whatever its error, as long as others hold it', () => {
  for (const code of Object.keys(ENDS) as ErrorCode[]) expect(endsRun(code, JOINER)).toBe(false);
  expect(endsRun('ERR_DATA_HASH', { ...JOINER, begun: false, othersHold: false })).toBe(true);
});

test('the only one ends the run before the first step, and after it with what any other would meet', () => {
  const alone = { ownAccord: false, begun: false, holds: false, others: 0, othersHold: false };
  expect(endsRun('ERR_CUDA', alone)).toBe(true);
  expect(endsRun('ERR_CUDA', { ...alone, begun: true, holds: true })).toBe(false);
  expect(endsRun('ERR_NON_FINITE', { ...alone, begun: true, holds: true })).toBe(true);
});

test('one that has come by itself ends alone before the first step as long as there are others', () => {
  const stranger = { ownAccord: true, begun: false, holds: false, others: 1, othersHold: false };
  expect(endsRun('ERR_PLAN', stranger)).toBe(false);
  expect(endsRun('ERR_PLAN', { ...stranger, others: 0 })).toBe(true);
  expect(endsRun('ERR_NON_FINITE', { ...stranger, begun: true, holds: true })).toBe(true);
});
