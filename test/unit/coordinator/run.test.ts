import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { startCoordinator } from '../../../src/coordinator/run.js';
import { openRunDir } from '../../../src/coordinator/run-dir.js';
import { MINIMAL, yaml } from '../../support/config.js';
import { temporaryFolder } from '../../support/folders.js';

test('stopped before training, it says why once: there is nothing to save', async () => {
  const runDir = temporaryFolder();
  const run = await startCoordinator({
    config: loadConfig(yaml(MINIMAL), ['telemetry.metrics_port=null']),
    workers: 1,
    runDir,
    resume: 'auto',
    listen: '127.0.0.1:0',
    token: 'secret',
    prometheusTargets: null,
    onListening: () => {},
  });
  run.stop(130, 'interrupted');
  expect(await run.done).toBe(130);
  const lines = readFileSync(join(runDir, 'run.log'), 'utf8').trimEnd().split('\n');
  const messages = lines.map((line) => (JSON.parse(line) as { msg: string }).msg);
  expect(messages).toEqual(['the run is JOINING', 'the run is DONE', 'interrupted']);
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
  const { started, lastGeneration, unlock } = await openRunDir(runDir, 'auto', loadConfig(yaml(MINIMAL), []));
  unlock();
  expect([started, lastGeneration]).toEqual([expected, 2]);
});
