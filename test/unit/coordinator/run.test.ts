import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { startCoordinator } from '../../../src/coordinator/run.js';
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
