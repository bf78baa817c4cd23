import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { loadConfigWithSources } from '../../../src/config/load.js';
import { startCoordinator } from '../../../src/coordinator/start.js';
import { RunDir } from '../../../src/run-folder/run-dir.js';
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
      minWorkers: 1,
      runDir,
      resume: 'auto',
      patienceSeconds: 60,
      again: false,
      network: null,
      prometheusTargets: null,
      launcher: null,
      onListening: () => {},
    });
    expect(existsSync(join(runDir, 'lock'))).toBe(true);
    run!.stop('SIGINT');
    expect(await run!.done).toBe(130);
  } finally {
    stdout.mockRestore();
  }
  expect(printed.join('').replaceAll(/^.{20}/gm, '')).toBe(
    'interrupted: stopped before the first step; there is nothing to save\n',
  );
  expect(existsSync(join(runDir, '..'))).toBe(false);
});

test('stopped before training that would begin with the checkpoint of another run, it says the same', async () => {
  const folder = temporaryFolder();
  const loaded = loadConfigWithSources(TRAINING, [], {});
  const from = writeCheckpoint(join(folder, 'other'), loaded, 1);
  XXX
});

test.each([
  ['its own record', { started_unix_seconds: 1000, unix_seconds: 1005 }, 1000],
  ['of a journal without that, the first line', { unix_seconds: 1005 }, 1005],
])('when a run was first started stays the same when it goes on: %s', async (_, line, expected) => {
  const runDir = temporaryFolder();
  const lines = [
    { generation: 1, step: 0, ...line },
    { generation: 2, step: 0, unix_seconds: 2000 },
  ];
  writeFileSync(join(runDir, 'journal.jsonl'), lines.map((each) => `${JSON.stringify(each)}\n`).join(''));
  const dir = await RunDir.open(runDir);
  dir.release();
  expect([dir.started, dir.lastGeneration]).toEqual([expected, 2]);
});
