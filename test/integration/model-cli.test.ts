/** `orchestrator model` on the command line: weights of others in and out. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.js';
import { temporaryFolder } from '../support/folders.js';
import { TRAINING } from '../support/launched.js';
import { orchestrator, succeeds } from '../support/program.js';

const WEIGHTS = 'test/fixtures/mmdit/sd35-medium-like.weights.safetensors';
const folder = temporaryFolder();

const model = (...words: string[]) => orchestrator('model', ...words);

test('exports to diffusers, inspects that, and imports it again to the same bytes', {
  timeout: 60_000,
}, () => {
  const theirs = join(folder, 'theirs');
  const first = join(folder, 'first.safetensors');
  const second = join(folder, 'second.safetensors');
  expect(model('import', WEIGHTS, '--out', first)).toMatchObject({ status: 0 });
  const exported = model('export', first, '--format', 'diffusers', '--out', theirs, '--shard-size', '1MB');
  expect(exported).toMatchObject({ status: 0, stderr: '' });
  expect(exported.stdout).toMatch(/wrote +.*theirs \(diffusers names\): \d+ tensors, .* in \d+ files/);

  const inspected = model('inspect', theirs, '--tensors');
  expect(inspected.stdout).toMatch(/names +diffusers, \d+ tensors: 1 F32, \d+ F16/);
  expect(inspected.stdout).toMatch(/transformer_blocks\.0\.attn2\.to_q\.weight +F16/);
  const json = JSON.parse(model('inspect', theirs, '--json').stdout);
  expect(json).toMatchObject({ format: 'diffusers', released: null, note: null, model: { qk_norm: 'rms' } });

  expect(model('import', theirs, '--out', second)).toMatchObject({ status: 0 });
  expect(readFileSync(second).equals(readFileSync(first))).toBe(true);
});

test('inspect prints a model that can be pasted', () => {
  const printed = succeeds(model('inspect', WEIGHTS));
  const keys = /^model:\n(?: {2}.*\n)+/m.exec(printed)![0];
  const { model: pasted } = parseConfig(`name: x\ndata: {path: d}\n${keys}`, 'pasted');
  expect(pasted).toEqual(JSON.parse(succeeds(model('inspect', WEIGHTS, '--json'))).model);
});

test('config new begins a run on a data set, from weights, that passes a dry run', {
  timeout: 60_000,
}, () => {
  const [data, out] = ['test/fixtures/huggingface/nested', join(folder, 'new.yaml')];
  const weights = join(folder, 'start.safetensors');
  // Weights as wide as the features of the set.
  const run = join(folder, 'run');
  const short = ['--set', 'schedule={steps: 1, warmup: 0}', '--set', 'validation={every: 0}'];
  succeeds(orchestrator('launch', TRAINING, '--run-dir', run, ...short));
  succeeds(model('export', run, '--weights', 'master', '--out', weights));
  const made = orchestrator(
    'config',
    'new',
    '--data',
    data,
    '--init',
    weights,
    '--out',
    out,
    '--name',
    'mine',
  );
  expect(succeeds(made)).toContain(`launch ${out} --dry-run`);
  expect(made.stderr).toMatch(/note: The model is that of .*depth 2, hidden 128/);
  const planned = succeeds(orchestrator('launch', out, '--dry-run', '--run-dir', join(folder, 'new')));
  expect(planned).toContain('depth 2, hidden 128');
  const named = (name: string) => orchestrator('config', 'new', '--data', data, '--name', name);
  expect(succeeds(named('2024'))).toMatch(/^name: "2024"$/m);
  expect(named('my run')).toMatchObject({ status: 2, stderr: expect.stringContaining('Expected a name of') });
  expect(orchestrator('config', 'new', '--data', data, '--out', out)).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('ERR_FILE_WRITE'),
  });
});

test('says what is wrong', { timeout: 60_000 }, () => {
  const official = model('import', WEIGHTS, '--format', 'diffusers', '--out', join(folder, 'x'));
  expect(official.status).toBe(1);
  expect(official.stderr).toMatch(
    /error ERR_MODEL_TENSORS: .*expected diffusers names, found official names/,
  );
  const nowhere = model('inspect', join(folder, 'nowhere.safetensors'));
  expect(nowhere.status).toBe(1);
  expect(nowhere.stderr).toMatch(/^error ERR_/);
  const unusual = model('export', WEIGHTS, '--out', join(folder, 'weights.bin'));
  expect(unusual.status).toBe(0);
  expect(unusual.stderr).toMatch(
    /^warn .*weights\.bin does not end in \.safetensors, by which programs recognise the format$/m,
  );
  const size = model('export', WEIGHTS, '--out', join(folder, 'x'), '--shard-size', 'big');
  expect(size.status).toBe(2);
});
