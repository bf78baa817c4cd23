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
