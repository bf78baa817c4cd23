import { expect, test } from 'vitest';
import { allPrintable, printable } from '../../../src/text/printable.js';

test('what controls a terminal goes, what can be read stays', () => {
  expect(printable('größe 漢字 🙂 a\tb\nc')).toBe('größe 漢字 🙂 a\tb\nc');
  expect(printable('\u001b]0;title\u0007\u001b[2J\u009b31m')).toBe(']0;title[2J31m');
  expect(printable('a\rb\0\u007f\u202e\u200b\u2028\ud800')).toBe('ab');
  expect(printable('x'.repeat(20), 5)).toBe('xxxxx…');
});

test('every text of a message, and nothing else', () => {
  const bytes = Uint8Array.of(27);
  expect(
    allPrintable({
      text: '\u001b',
      list: ['\r', { inner: '\0a' }],
      numbers: [27],
      none: null,
      flag: true,
      bytes,
    }),
  ).toEqual({ text: '', list: ['', { inner: 'a' }], numbers: [27], none: null, flag: true, bytes });
});

test('what is clean stays the value itself; the rest of a list and a map is kept in its order', () => {
  const clean = { a: ['x', { b: [1, 2] }], c: { d: 'y' } };
  expect(allPrintable(clean)).toBe(clean);
  const part = allPrintable({ first: clean, 'se\rcond': 1, list: [clean, '\0', clean] });
  expect(JSON.stringify(part)).toBe(JSON.stringify({ first: clean, second: 1, list: [clean, '', clean] }));
  expect((part as { first: unknown }).first).toBe(clean);
});

test('each text is looked at once, however deep it lies', () => {
  let looks = 0;
  const text = {
    get text() {
      looks++;
      return '\u001b';
    },
  };
  let deep: object = text;
  for (let i = 0; i < 20; i++) deep = i % 2 === 0 ? { deep } : [deep];
  allPrintable(deep);
  // The object that holds it is copied, which reads it once more.
  expect(looks).toBeLessThanOrEqual(2);
});
