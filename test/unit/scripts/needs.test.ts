import { afterEach, expect, test, vi } from 'vitest';
import { because, needs } from '../../support/needs.js';

afterEach(() => {
  vi.unstubAllEnvs();
});

test('says which package has a program that is missing', () => {
  vi.stubEnv('PATH', '/nowhere');
  expect(needs('umount')).toBe('needs umount (Debian package mount)');
  expect(needs('clang-format')).toBe('needs clang-format (Debian package clang-format-14 or clang-format)');
});

test('knows only what .ci/run installs', () => {
  expect(() => needs('ffmpeg')).toThrow('ffmpeg is not in scripts/packages-test.txt');
});

test('puts the reason into the name', () => {
  expect(because('a full disk', null)).toBe('a full disk');
  expect(because('a full disk', 'needs root')).toBe('a full disk [needs root]');
});
