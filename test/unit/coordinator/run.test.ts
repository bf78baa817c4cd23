import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { loadConfigWithSources } from '../../../src/config/load.js';
import { startCoordinator } from '../../../src/coordinator/run.js';
import { temporaryFolder } from '../../support/folders.js';
import { TRAINING } from '../../support/launched.js';

test('stopped before training, it says why once, and leaves no folder: there is nothing to save', async () => {
  const runDir = join(temporaryFolder(), 'new', 'run');
  const printed: string[] = [];
  const stdout = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed.push(String(text));
    return true;
  });
  try {
    const run = await startCoordinator({
      loaded: loadConfigWithSources(TRAINING, [], {}),
      workers: 1,
      runDir,
      resume: 'auto',
      listen: '127.0.0.1:0',
      token: 'secret',
      supervised: false,
      onListening: () => {},
    });
    expect(existsSync(join(runDir, 'lock'))).toBe(true);
    run!.stop('SIGINT');
    expect(await run!.done).toBe(130);
  } finally {
    stdout.mockRestore();
  }
  expect(printed.join('')).toBe('interrupted: stopped before the first step; there is nothing to save\n');
  expect(existsSync(join(runDir, '..'))).toBe(false);
});
