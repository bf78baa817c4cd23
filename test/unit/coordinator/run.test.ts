import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { loadConfigWithSources } from '../../../src/config/load.js';
import { startCoordinator } from '../../../src/coordinator/start.js';
import { describeData, resolveRun } from '../../../src/run-folder/resolve-run.js';
import { RunDir } from '../../../src/run-folder/run-dir.js';
import { SamplePlan } from '../../../src/step/plan.js';
import { contentOf, saveCheckpoint } from '../../support/checkpoints.js';
import { temporaryFolder } from '../../support/folders.js';
import { TRAINING } from '../../support/launched.js';

/** What a run prints that is interrupted as soon as workers may join. */
async function stoppedAtOnce(runDir: string, resume: string): Promise<string> {
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
      resume,
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
  return printed.join('').replaceAll(/^.{20}/gm, '');
}

test('stopped before training, it says why once, and leaves no folder: there is nothing to save', async () => {
  const runDir = join(temporaryFolder(), 'new', 'run');
  expect(await stoppedAtOnce(runDir, 'auto')).toBe(
    'interrupted: stopped before the first step; there is nothing to save\n',
  );
  expect(existsSync(join(runDir, '..'))).toBe(false);
});

test('stopped before training that would begin with the checkpoint of another run, it says the same', async () => {
  const folder = temporaryFolder();
  const loaded = loadConfigWithSources(TRAINING, [], {});
  const data = describeData(loaded);
  const other = { runDir: join(folder, 'other'), resume: 'never', thorough: false };
  const { config, model, segments } = await resolveRun(loaded, data, data, other);
  const content = contentOf(2, 1, model);
  const { latent, text } = data;
  const planState = new SamplePlan(segments).state(2, config.batch.global);
  const { datasetHash } = segments[0]!;
  const metadata = { ...content.metadata, ...{ config, datasetHash, latent, text, planState } };
  const { path } = await saveCheckpoint(join(other.runDir, 'checkpoints'), { ...content, metadata });
  const runDir = join(folder, 'new');
  expect(await stoppedAtOnce(runDir, path)).toContain(
    'interrupted: stopped before the first step; there is nothing to save\n',
  );
  expect(existsSync(runDir)).toBe(false);
  // Another launch of that run begins where it was.
  const line = { generation: 1, step: 0, unix_seconds: 1000, workers: [] };
  writeFileSync(join(other.runDir, 'journal.jsonl'), `${JSON.stringify(line)}\n`);
  expect(await stoppedAtOnce(other.runDir, 'auto')).toContain('stopped after step 2; run the same');
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
