/** `orchestrator model` on the command line: weights of others in and out. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../support/folders.js';
import { orchestrator } from '../support/program.js';

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

  const inspected = model('inspect', theirs);
  expect(inspected.stdout).toMatch(/names +diffusers, \d+ tensors: 1 F32, \d+ F16/);
  expect(inspected.stdout).toMatch(/transformer_blocks\.0\.attn2\.to_q\.weight +F16/);
  const json = JSON.parse(model('inspect', theirs, '--json').stdout);
  expect(json).toMatchObject({ format: 'diffusers', released: null, note: null, model: { qkNorm: 'rms' } });

  expect(model('import', theirs, '--out', second)).toMatchObject({ status: 0 });
  expect(readFileSync(second).equals(readFileSync(first))).toBe(true);
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
  const size = model('export', WEIGHTS, '--out', join(folder, 'x'), '--shard-size', 'big');
  expect(size.status).toBe(2);
});
