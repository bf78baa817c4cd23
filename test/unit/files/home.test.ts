import { homedir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { cacheFolder, withHome } from '../../../src/files/home.js';

afterEach(() => vi.unstubAllEnvs());

test('a leading ~ is the home folder, and no other', () => {
  expect(withHome('~')).toBe(homedir());
  expect(withHome('~/data/x')).toBe(join(homedir(), 'data/x'));
  for (const path of ['~user/x', 'a/~/b', '/tmp/~', './~']) expect(withHome(path)).toBe(path);
});

test('the cache is where XDG says, if it says an absolute path', () => {
  vi.stubEnv('XDG_CACHE_HOME', '/var/cache/me');
  expect(cacheFolder()).toBe('/var/cache/me/orchestrator');
  for (const unset of ['', 'relative']) {
    vi.stubEnv('XDG_CACHE_HOME', unset);
    expect(cacheFolder()).toBe(join(homedir(), '.cache', 'orchestrator'));
  }
});
