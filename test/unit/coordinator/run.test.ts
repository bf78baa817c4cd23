import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { loadConfigWithSources } from '../../../src/config/load.js';
import { startCoordinator } from '../../../src/coordinator/start.js';
import { describeData, resolveRun } from '../../../src/run-folder/resolve-run.js';
import { RunDir } from '../../../src/run-folder/run-dir.js';
import { Secrets } from '../../../src/run-folder/secrets.js';
import { SamplePlan } from '../../../src/step/plan.js';
import { contentOf, saveCheckpoint } from '../../support/checkpoints.js';
import { temporaryFolder } from '../../support/folders.js';
import { TRAINING } from '../../support/launched.js';

const NETWORK = { listen: '127.0.0.1:0', advertise: '127.0.0.1' };

/** What a run prints that is interrupted as soon as workers may join, and then forgets one that it waits for. */
async function stoppedAtOnce(runDir: string, resume: string, awaited: string | null = null): Promise<string> {
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
      network: awaited === null ? null : NETWORK,
      prometheusTargets: null,
      launcher: null,
      onListening: () => {},
    });
    expect(existsSync(join(runDir, 'lock'))).toBe(true);
    run!.stop('SIGINT');
    if (awaited !== null) run!.workerForgotten(awaited);
    expect(await run!.done).toBe(awaited === null ? 130 : 3);
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

/** A run with the checkpoint of step 2, and its last generation. Returns the path of the checkpoint. */
async function begun(runDir: string, workers: object[]): Promise<string> {
  const loaded = loadConfigWithSources(TRAINING, [], {});
  const data = describeData(loaded);
  const options = { runDir, resume: 'never', thorough: false };
  const { config, model, segments } = await resolveRun(loaded, data, data, options);
  const content = contentOf(2, 1, model);
  const { latent, text } = data;
  const planState = new SamplePlan(segments).state(2, config.batch.global);
  const { datasetHash } = segments[0]!;
  const metadata = { ...content.metadata, ...{ config, datasetHash, latent, text, planState } };
  const { path } = await saveCheckpoint(join(runDir, 'checkpoints'), { ...content, metadata });
  const line = { generation: 1, step: 0, unix_seconds: 1000, workers };
  writeFileSync(join(runDir, 'journal.jsonl'), `${JSON.stringify(line)}\n`);
  return path;
}

test('stopped before training that would begin with the checkpoint of another run, it says the same', async () => {
  const folder = temporaryFolder();
  const other = join(folder, 'other');
  const path = await begun(other, []);
  const runDir = join(folder, 'new');
  expect(await stoppedAtOnce(runDir, path)).toContain(
    'interrupted: stopped before the first step; there is nothing to save\n',
  );
  expect(existsSync(runDir)).toBe(false);
  // Another launch of that run begins where it was.
  expect(await stoppedAtOnce(other, 'auto')).toContain('stopped after step 2; run the same');
});

test.each([
  ['died', 'the coordinator was started again; it waits for the workers, which hold the state\n'],
  ['failed', 'workers of the run that has failed may come back with the state, and are waited for\n'],
])('after one that has %s, it says for whom it waits, and what is lost without them', async (how, says) => {
  const runDir = temporaryFolder();
  const elsewhere = { id: 'b-2', pid: 1, host: 'b', machine: 'another boot', localAddress: '' };
  await begun(runDir, [elsewhere]);
  writeFileSync(join(runDir, 'ledger.jsonl'), `${JSON.stringify({ step: 5 })}\n`);
  if (how === 'died') new Secrets(runDir).publish('left');
  const printed = await stoppedAtOnce(runDir, 'auto', 'b-2');
  expect(printed).toContain(says);
  expect(printed).toMatch(/interrupted: waiting up to 15 s for worker b-2 to come back: nobody else holds/);
  expect(printed).toContain('stopped without saving: 3 steps since the checkpoint of step 2 are lost');
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
