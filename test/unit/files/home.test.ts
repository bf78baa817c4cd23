import { homedir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { argumentWithHome, cacheFolder, withHome } from '../../../src/files/home.js';

afterEach(() => vi.unstubAllEnvs());

test('a leading ~ is the home folder, and no other', () => {
  expect(withHome('~')).toBe(homedir());
  expect(withHome('~/data/x')).toBe(join(homedir(), 'data/x'));
  for (const path of ['~user/x', 'a/~/b', '/tmp/~', './~']) expect(withHome(path)).toBe(path);
});

test('is meant in arguments by a "~" that no shell replaces, and by no other', () => {
  expect(argumentWithHome('--run-dir=~/run')).toBe(`--run-dir=${join(homedir(), 'run')}`);
  expect(argumentWithHome('~/run')).toBe(join(homedir(), 'run'));
  for (const other of ['--run-dir', '--run-dir=a~/b', '--set=name=~/x', 'data.path=~/x', 'a ~/b', '-n=~/x']) {
    expect(argumentWithHome(other)).toBe(other);
  }
});

test('the cache is where XDG says, if it says an absolute path', () => {
  vi.stubEnv('XDG_CACHE_HOME', '/var/cache/me');
  expect(cacheFolder()).toBe('/var/cache/me/orchestrator');
  for (const unset of ['', 'relative']) {
    vi.stubEnv('XDG_CACHE_HOME', unset);
    expect(cacheFolder()).toBe(join(homedir(), '.cache', 'orchestrator'));
  }
});
