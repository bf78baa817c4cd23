import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { Tokens } from '../../../src/security/tokens.js';
import { temporaryFolder } from '../../support/folders.js';

const HOUR = 3_600_000;
let path: string;
let now: number;
let tokens: Tokens;
const open = () => new Tokens(path, () => now);
beforeEach(() => {
  path = join(temporaryFolder(), 'tokens.jsonl');
  now = Date.UTC(2026, 0, 1);
  tokens = open();
});
const key = (name: string) => Buffer.from(name);

test('a token lets as many processes join as it says, each as often as it asks, also after a restart', () => {
  const token = tokens.issue({ uses: 2, seconds: 60, worker: null });
  expect(tokens.use(token, key('a'), 'a')).toBe('a');
  expect(tokens.use(token, key('a'), 'a')).toBe('a');
  tokens.close();
  tokens = open();
  expect(tokens.use(token, key('a'), 'a')).toBe('a');
  expect(tokens.use(token, key('b'), 'b')).toBe('b');
  tokens.close();
  tokens = open();
  expect(() => tokens.use(token, key('c'), 'c')).toThrow(
    'the token has been used 2 times, as often as it may be',
  );
  expect(tokens.use(token, key('b'), 'b')).toBe('b');
});

test('a token of one use is used up, and it is the token of its worker', () => {
  const token = tokens.issue({ uses: 1, seconds: 60, worker: 'local-1' });
  expect(tokens.use(token, key('a'), 'a')).toBe('local-1');
  expect(() => tokens.use(token, key('b'), 'b')).toThrow(
    expect.objectContaining({ code: 'ERR_TOKEN', message: 'the token has been used already' }),
  );
});

test('a token expires, also while the coordinator is down, and is then forgotten', () => {
  const token = tokens.issue({ uses: 9, seconds: 60, worker: null });
  now += 61_000;
  expect(() => tokens.use(token, key('a'), 'a')).toThrow('the token expired at 2026-01-01T00:01:00.000Z');
  tokens.close();
  tokens = open();
  expect(() => tokens.use(token, key('a'), 'a')).toThrow('expired');
  now += HOUR;
  tokens.issue({ uses: 1, seconds: 60, worker: null });
  expect(() => tokens.use(token, key('a'), 'a')).toThrow('no such token');
});

test.each(['', 'guess', 'A'.repeat(43), 'x'.repeat(1_000_000)])('no other text is a token', (guess) => {
  tokens.issue({ uses: 1, seconds: 60, worker: null });
  expect(() => tokens.use(guess, key('a'), 'a')).toThrow('this run has issued no such token');
});

test('nobody gets the id of another worker, also after a restart', () => {
  const [own, shared] = [
    tokens.issue({ uses: 1, seconds: 60, worker: 'local-1' }),
    tokens.issue({ uses: 4, seconds: 60, worker: null }),
  ];
  expect(tokens.use(shared, key('a'), 'local-1')).toBe('local-1-2');
  expect(tokens.use(shared, key('b'), 'x')).toBe('x');
  tokens.close();
  tokens = open();
  expect(tokens.use(shared, key('c'), 'x')).toBe('x-2');
  expect(tokens.use(shared, key('b'), 'y')).toBe('x');
  expect(tokens.use(shared, key('d'), 'local-1')).toBe('local-1-3');
  expect(tokens.use(own, key('e'), 'y')).toBe('local-1');
});

test('the file has no token in it, and what is not a line of it is left out', () => {
  const token = tokens.issue({ uses: 1, seconds: 60, worker: null });
  tokens.use(token, key('a'), 'a');
  tokens.close();
  const text = readFileSync(path, 'utf8');
  expect(text).not.toContain(token);
  writeFileSync(path, `garbage\n{"used":"unknown","key":"k"}\n{"token":1}\n${text}{"token":"torn`);
  tokens = open();
  expect(() => tokens.use(token, key('b'), 'b')).toThrow('used already');
});

test('there is an end to tokens that have not expired', () => {
  tokens.issue({ uses: 1, seconds: 60, worker: null });
  const line = JSON.parse(readFileSync(path, 'utf8')) as object;
  tokens.close();
  writeFileSync(
    path,
    Array.from({ length: 10_000 }, (_, i) => `${JSON.stringify({ ...line, token: String(i) })}\n`).join(''),
  );
  tokens = open();
  expect(() => tokens.issue({ uses: 1, seconds: 60, worker: null })).toThrow('10000 tokens');
  now += HOUR;
  expect(tokens.issue({ uses: 1, seconds: 60, worker: null })).toHaveLength(43);
});
