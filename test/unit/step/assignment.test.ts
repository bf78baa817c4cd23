import { expect, test } from 'vitest';
import { checkFewest } from '../../../src/step/assignment.js';

test('more workers cannot be left than there are', () => {
  checkFewest(4, 4);
  expect(() => checkFewest(4, 5)).toThrow('At least 5 workers cannot be left of 4');
});
