/** Latents for rows of a data set, with a model that is not of the shapes world. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, expect, test } from 'vitest';
import { Safetensors } from '../../src/formats/safetensors/file.js';
import { temporaryFolder } from '../support/folders.js';
import { TRAINING } from '../support/launched.js';
import { orchestrator, succeeds } from '../support/program.js';

const folder = temporaryFolder();
const run = join(folder, 'run');
const SHIFT = 1.7;
const short = { schedule: '{steps: 2, warmup: 0}', ema: 'null', validation: '{every: 0}' };

const sample = (out: string, ...more: string[]) =>
  orchestrator('sample', '--rows', '0-2', '--steps', '2', '--out', join(folder, out), ...more);

async function latentsIn(out: string) {
  const file = await Safetensors.open(join(folder, out));
  const [values, { shape }, metadata] = [await file.read('latents'), file.entry('latents'), file.metadata];
  await file.close();
  return { values: [...values], shape, metadata: Object.fromEntries(metadata) };
}

beforeAll(() => {
  const set = Object.entries({ ...short, 'objective.shift': SHIFT }).flatMap(([key, value]) => [
    '--set',
    `${key}=${value}`,
  ]);
  succeeds(orchestrator('launch', TRAINING, '--run-dir', run, ...set));
});

test('takes data and settings from the run, and says how to read the file', async () => {
  const printed = succeeds(sample('a.safetensors', '--checkpoint', run, '--preview', join(folder, 'a.png')));
  expect(printed).toContain('3 latents | 16 x 8 x 8');
  expect(printed).toContain('3 pictures');
  expect(printed).toContain('false colours');
  const { values, shape, metadata } = await latentsIn('a.safetensors');
  expect(shape).toEqual([3, 16, 8, 8]);
  expect(values.every(Number.isFinite)).toBe(true);
  expect(metadata).toMatchObject({
    shift: '1.7',
    rows: '0,1,2',
    latent_scale: '1',
    step: '2',
    guidance: '2.5',
  });
  expect((await sharp(join(folder, 'a.png')).metadata()).format).toBe('png');
  expect(printed).not.toContain('replaces');
  const again = succeeds(sample('a.safetensors', '--checkpoint', run, '--preview', join(folder, 'a.png')));
  expect(again).toMatch(/a\.safetensors \| .* \| replaces the file of this name$/m);
  expect(again).toMatch(/a\.png \| .* \| replaces the file of this name$/m);
  // Another number of threads, and of rows at once.
  const row = join(folder, 'row.safetensors');
  succeeds(
    orchestrator(
      'sample',
      '--rows',
      '0',
      '--steps',
      '2',
      '--threads',
      '1',
      '--checkpoint',
      run,
      '--out',
      row,
    ),
  );
  expect((await latentsIn('row.safetensors')).values).toEqual(values.slice(0, 1024));
});

test('gives the same latents from exported weights, whose files state the shift', async () => {
  const exported = join(folder, 'my-model', 'transformer');
  const printed = succeeds(orchestrator('model', 'export', run, '--format', 'diffusers', '--out', exported));
  expect(printed).toMatch(/sampling +rf\/lognorm\(0,1\), shift 1\.7; unconditional = zeros/);
  const scheduler = readFileSync(join(folder, 'my-model', 'scheduler', 'scheduler_config.json'), 'utf8');
  expect(JSON.parse(scheduler)).toEqual({
    _class_name: 'FlowMatchEulerDiscreteScheduler',
    num_train_timesteps: 1000,
    shift: SHIFT,
  });
  succeeds(sample('b.safetensors', '--checkpoint', join(folder, 'my-model'), '--config', TRAINING));
  succeeds(sample('a.safetensors', '--checkpoint', run));
  expect((await latentsIn('b.safetensors')).values).toEqual((await latentsIn('a.safetensors')).values);
});

test('the guide loads with diffusers what the export has', () => {
  const page = readFileSync('docs/guide/diffusers.md', 'utf8');
  const loads = [...page.matchAll(/(\w+)\.from_pretrained\(\s*MODEL, subfolder="(\w+)"/g)];
  expect(loads.map(([, , part]) => part)).toEqual(['transformer', 'scheduler']);
  for (const [, name, part] of loads) {
    const file = part === 'transformer' ? 'config.json' : 'scheduler_config.json';
    const config = JSON.parse(readFileSync(join(folder, 'my-model', part!, file), 'utf8'));
    expect(config._class_name).toBe(name);
  }
});

test('draws latents of another size, and pictures of the format of the name', async () => {
  succeeds(sample('wide.jpg', '--checkpoint', run, '--size', '4x12'));
  const { format, width, height } = await sharp(join(folder, 'wide.jpg')).metadata();
  expect([format, width]).toEqual(['jpeg', 16 + 2 * (192 + 16)]);
  expect(height).toBeLessThan(300);
});

test.each([
  ['rows that are not there', ['--rows', '48'], 1, /ERR_DATA_ROW: .*there is no row 48/],
  ['prompts beside rows', ['--prompt', 'cross'], 2, /ERR_USAGE: .*either prompts or --rows/],
  ['a second picture', ['--preview', 'b.png'], 2, /ERR_USAGE: --preview needs the latents in --out/],
  [
    'a caption that rows do not have',
    ['--caption', 'synthetic'],
    1,
    /ERR_DATA_COLUMN: .*no synthetic caption/,
  ],
  [
    'a size that the patch does not divide',
    ['--size', '7x8'],
    1,
    /ERR_TENSOR_SHAPE: .*7 x 8 .*multiples of 2 .*up to 32/,
  ],
])('refuses %s', (_, more, status, message) => {
  const refused = sample('none.png', '--checkpoint', run, ...more);
  expect(refused.stderr).toMatch(message);
  expect(refused.status).toBe(status);
});

test('asks for what weights alone do not say', () => {
  const weights = 'test/fixtures/mmdit/sd35-medium-like.weights.safetensors';
  const data = sample('none.png', '--checkpoint', weights);
  expect(data).toMatchObject({ status: 2, stderr: expect.stringContaining('give --data DIR') });
  const shift = sample('none.png', '--checkpoint', weights, '--config', TRAINING);
  expect(shift).toMatchObject({ status: 2, stderr: expect.stringContaining('give --shift') });
  const other = sample('none.png', '--checkpoint', weights, '--config', TRAINING, '--shift', '3');
  expect(other).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/ERR_DATA_SHAPE: .*160 wide, .*128; the model expects 64 and 32/),
  });
});
