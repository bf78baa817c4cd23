import { expect, test } from 'vitest';
import { HeldLines } from '../../../src/launch/kept-workers.js';

test('what says that a host is not reached is held back only as long as nothing else was said', () => {
  const told: string[] = [];
  const lines = new HeldLines((line) => told.push(line));
  lines.add('ssh: one', true);
  lines.add('Connection closed by b port 22', true);
  expect(told).toEqual([]);
  lines.add('loading', false);
  expect(told).toEqual(['ssh: one', 'Connection closed by b port 22', 'loading']);
  lines.add('ssh: of the program', true);
  expect(told.at(-1)).toBe('ssh: of the program');
});
