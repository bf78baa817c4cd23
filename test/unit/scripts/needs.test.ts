import { afterEach, expect, it, vi } from 'vitest';
import { because, needs } from '../../needs.js';

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

it('says which package has a program that is missing', () => {
  vi.stubEnv('PATH', '/nowhere');
  expect(needs('umount')).toBe('needs umount (Debian package mount)');
  expect(needs('clang-format')).toBe('needs clang-format (Debian package clang-format-14 or clang-format)');
});

it('knows only what .ci/run installs', () => {
  expect(() => needs('ffmpeg')).toThrow('ffmpeg is not in scripts/packages-test.txt');
});

it('puts the reason into the name, and prints it', () => {
  const warn = vi.spyOn(console, 'warn').mockReturnValue();
  expect(because('a full disk', null)).toBe('a full disk');
  expect(warn).not.toHaveBeenCalled();
  expect(because('a full disk', 'needs root')).toBe('a full disk [needs root]');
  expect(warn).toHaveBeenCalledWith('skipped: a full disk: needs root');
});
