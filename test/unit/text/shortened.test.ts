import { expect, test } from 'vitest';
import { named, shortened } from '../../../src/text/shortened.js';

test('of a long list the first are shown, and the others counted', () => {
  expect(shortened(['a', 'b'], 2)).toEqual(['a', 'b']);
  expect(shortened(['a', 'b', 'c'], 1)).toEqual(['a', 'and 2 more']);
  expect(named(['a', 'b'], 2)).toBe('a, b');
  expect(named(['a', 'b', 'c'], 2)).toBe('a, b and 1 other');
  expect(named(Array(18).fill('a'))).toBe(`${Array(16).fill('a').join(', ')} and 2 others`);
});
