/** The shapes world end to end, in small: data set, training, pictures, score. */
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import { type CheckpointManifest, encodeManifest, readManifest } from '../../src/checkpoint/manifest.js';
import { listCheckpoints } from '../../src/checkpoint/retention.js';
import { openSource } from '../../src/data/formats.js';
import { Safetensors } from '../../src/formats/safetensors/file.js';
import { temporaryFolder } from '../support/folders.js';
import { rows } from '../support/full.js';
import { readLines } from '../support/launched.js';
import { orchestrator, orchestratorIn, succeeds } from '../support/program.js';

const folder = temporaryFolder();
const data = join(folder, 'data');
const run = join(folder, 'run');

beforeAll(() => {
  expect(orchestrator('dataset', 'shapes', '--out', data, '--count', '512', '--seed', '3')).toMatchObject({
    status: 0,
  });
  const launched = orchestrator(
    ...['launch', 'configs/shapes-tiny.yaml', '--nodes', '2', '--run-dir', run, '--set', `data.path=${data}`],
  );
  expect(launched, launched.stderr).toMatchObject({ status: 0 });
  // Its latents are scaled as its models need them.
  expect(launched.stdout + launched.stderr).not.toContain('standard deviation');
});

describe('dataset shapes --refresh', () => {
  const dir = join(folder, 'refreshed');
  const path = join(dir, 'manifest.json');
  const refresh = (count = '96') =>
    orchestrator('dataset', 'shapes', '--out', dir, '--count', count, '--seed', '3', '--refresh');

  test('keeps what is the same, and makes again what other numbers or another generator made', () => {
    expect(refresh()).toMatchObject({ status: 0, stdout: expect.stringContaining('96 rows') });
    expect(refresh()).toMatchObject({ status: 0, stdout: `${dir}: up to date\n` });
    expect(refresh('80').stdout).toContain('(it has 96 rows), so it is replaced');
    const manifest = JSON.parse(readFileSync(path, 'utf8'));
    expect(manifest.rows).toBe(80);
    manifest.shards[0].crc32.latent[0] += 1; // as a generator that draws otherwise would have left it
    writeFileSync(path, JSON.stringify(manifest));
    expect(refresh('80').stdout).toContain('(other contents of "latent"), so it is replaced');
    expect(refresh('80').stdout).toBe(`${dir}: up to date\n`);
  });

  test('removes nothing else', () => {
    writeFileSync(join(dir, 'notes.txt'), '');
    expect(refresh('64')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('notes.txt is not part'),
    });
    expect(existsSync(path)).toBe(true);
  });
});

describe('sample', () => {
  const sample = (out: string, ...more: string[]) =>
    orchestrator('sample', '--checkpoint', run, '--steps', '3', '--out', out, ...more);

  test('sets labels in its own font, whatever the machine has', () => {
    const nowhere = { FONTCONFIG_FILE: '/nowhere', FONTCONFIG_PATH: '/nowhere', HOME: '/nowhere' };
    const [usual, bare] = [join(folder, 'usual.png'), join(folder, 'bare.png')];
    const flags = ['--checkpoint', run, '--steps', '1', '--prompt', 'red circle'];
    succeeds(orchestrator('sample', ...flags, '--out', usual));
    const done = orchestratorIn({ env: nowhere }, 'sample', ...flags, '--out', bare);
    succeeds(done);
    expect(done.stderr).not.toMatch(/font/i);
    expect(readFileSync(bare).equals(readFileSync(usual))).toBe(true);
  });

  test('draws a grid of labelled pictures, the same for the same seed', async () => {
    const prompts = join(folder, 'prompts.txt');
    writeFileSync(prompts, '# two\nred circle\n\nthree blue squares\n');
    const [first, second, third] = ['a.png', 'b.png', 'c.png'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    const done = sample(first, '--prompts', prompts, '--prompt', 'green cross above yellow triangle');
    expect(done, done.stderr).toMatchObject({ status: 0 });
    expect(done.stdout).toContain('3 pictures');
    expect(done.stderr).toContain('3/3 steps');
    const { width, height } = await sharp(first).metadata();
    expect([width, height]).toEqual([432, expect.any(Number)]);
    sample(second, '--prompts', prompts, '--prompt', 'green cross above yellow triangle', '--threads', '1');
    expect(readFileSync(second).equals(readFileSync(first))).toBe(true);
    sample(third, '--prompts', prompts, '--prompt', 'green cross above yellow triangle', '--seed', '1');
    expect(readFileSync(third).equals(readFileSync(first))).toBe(false);
    expect(done.stderr).toMatch(
      /^note: Weights: EMA of step 20 \(decay 0\.9 with warm-up\): mean age about 2\.\d steps; /m,
    );
  });

  test('draws by every solver, whatever the formulation of the training', () => {
    const other = join(folder, 'edm');
    const keys = [
      'objective.formulation=edm(0, 0.60)',
      'schedule.steps=2',
      'schedule.warmup=1',
      `data.path=${data}`,
    ];
    const sets = keys.flatMap((key) => ['--set', key]);
    succeeds(orchestrator('launch', 'configs/shapes-tiny.yaml', '--run-dir', other, ...sets));
    const drawn = [
      ['euler', 'uniform'],
      ['heun', 'karras'],
      ['dpmpp-2m', 'reference'],
    ].map(([solver, schedule]) => {
      const out = join(folder, `${solver}.png`);
      const how = ['--solver', solver!, '--schedule', schedule!, '--steps', '3', '--prompt', 'red circle'];
      const done = orchestrator('sample', '--checkpoint', other, '--out', out, ...how);
      expect(succeeds(done)).toContain('1 picture');
      expect(done.stderr).toContain('| step 2 | edm(0,0.6) | shift 1');
      return readFileSync(out).toString('base64');
    });
    expect(new Set(drawn).size).toBe(3);
  });

  test('draws for a row of the data set what it draws for its caption', async () => {
    const caption = openSource(data).label('original.caption', 3);
    const drawn = (name: string) => join(folder, name);
    succeeds(sample(drawn('prompt.safetensors'), '--prompt', caption));
    succeeds(sample(drawn('row.safetensors'), '--rows', '3', '--preview', drawn('row.png')));
    const [prompt, row] = await Promise.all(
      ['prompt.safetensors', 'row.safetensors'].map(async (name) => {
        const file = await Safetensors.open(drawn(name));
        const latents = await file.read('latents');
        await file.close();
        return latents;
      }),
    );
    // Stored features are float16.
    expect(Math.max(...row!.map((value, i) => Math.abs(value - prompt![i]!)))).toBeLessThan(0.02);
    succeeds(sample(drawn('prompt.png'), '--prompt', caption));
    const [a, b] = await Promise.all(
      ['prompt.png', 'row.png'].map((name) =>
        sharp(drawn(name)).extract({ left: 16, top: 16, width: 192, height: 192 }).raw().toBuffer(),
      ),
    );
    // Decoded by the shapes world's decoder, too.
    expect(a!.findIndex((value, i) => Math.abs(value - b![i]!) >= 16)).toBe(-1);
  });

  test('writes single pictures into a folder that has no others', async () => {
    const [grid, each] = [join(folder, 'with-each.png'), join(folder, 'each')];
    succeeds(sample(grid, '--prompt', 'red circle', '--prompt', 'blue square', '--each', each));
    expect(readdirSync(each)).toEqual(['0000.png', '0001.png', 'prompts.jsonl']);
    expect(readLines(join(each, 'prompts.jsonl'))).toEqual([
      { file: '0000.png', prompt: 'red circle', seed: expect.any(Number) },
      { file: '0001.png', prompt: 'blue square', seed: expect.any(Number) },
    ]);
    const single = sharp(join(each, '0000.png'));
    expect(await single.metadata()).toMatchObject({ width: 64, height: 64, channels: 3 });
    // The grid has it enlarged, 16 pixels from the edges.
    const side = { width: 192, height: 192 };
    const shown = sharp(grid).extract({ left: 16, top: 16, ...side });
    const enlarged = single.resize({ ...side, kernel: 'cubic' });
    const [a, b] = await Promise.all([shown, enlarged].map((one) => one.removeAlpha().raw().toBuffer()));
    expect(a!.equals(b!)).toBe(true);
    const again = sample(grid, '--prompt', 'red circle', '--each', each);
    expect(again.status).toBe(1);
    expect(again.stderr).toContain(`ERR_FILE_WRITE: ${each}: this folder is not empty`);
    const own = join(folder, 'own');
    const inside = sample(join(own, '0000.png'), '--prompt', 'red circle', '--each', own);
    expect(inside.status).toBe(2);
    expect(inside.stderr).toMatch(/ERR_USAGE: .*0000\.png is in .*own, the folder of --each/);
    expect(existsSync(own)).toBe(false);
  });

  test('writes the format of the name', async () => {
    const out = join(folder, 'grid.jpg');
    succeeds(sample(out, '--prompt', 'red circle'));
    expect((await sharp(out).metadata()).format).toBe('jpeg');
  });

  test.each(
    rows<[name: string, more: string[], status: number, message: RegExp]>(
      [
        ['a word it does not know', ['--prompt', 'red hexagon'], 1, /ERR_PROMPT: .*"hexagon"/],
        ['a solver it does not know', ['--prompt', 'cross', '--solver', 'rk4'], 2, /ERR_USAGE: .*--solver/],
      ],
      [
        ['no prompts', [], 2, /ERR_USAGE: .*--prompt/],
        ['a missing file of prompts', ['--prompts', 'no-such-file'], 1, /ERR_FILE_OPEN: .*no-such-file/],
        ['a bad number of steps', ['--prompt', 'cross', '--steps', '0'], 2, /ERR_USAGE: .*--steps/],
        [
          'a format it cannot write',
          ['--prompt', 'cross', '--out', 'grid.gif'],
          2,
          /ERR_USAGE: .*\.png, \.jpg/,
        ],
        ['a bad guidance scale', ['--prompt', 'cross', '--guidance', 'much'], 2, /ERR_USAGE: .*--guidance/],
      ],
    ),
  )('refuses %s', (_, more, status, message) => {
    const out = join(folder, 'none.png');
    const refused = sample(out, ...more);
    expect(refused.stderr).toMatch(message);
    expect(refused.status).toBe(status);
    expect(existsSync(out)).toBe(false);
  });

  test('refuses texts of other encoders, and tells where they are not named', async () => {
    const other = join(folder, 'encoders');
    cpSync(run, other, { recursive: true });
    const { path } = (await listCheckpoints(join(other, 'checkpoints')))[0]!;
    const manifest = await readManifest(path);
    expect(manifest.encoders).toEqual({ clip_l: 'shapes/clip-l', clip_g: 'shapes/clip-g', t5: 'shapes/t5' });
    const withEncoders = (encoders: CheckpointManifest['encoders']) => {
      writeFileSync(join(path, 'manifest.json'), encodeManifest({ ...manifest, encoders }));
      const to = join(folder, 'other.png');
      return orchestrator('sample', '--checkpoint', path, '--steps', '1', '--prompt', 'cross', '--out', to);
    };
    expect(withEncoders({ clip_l: 'shapes/clip-l', clip_g: 'shapes/clip-g', t5: 'google/t5' })).toMatchObject(
      {
        status: 1,
        stderr: expect.stringMatching(/ERR_CHECKPOINT_MISMATCH: .*its texts were encoded by google\/t5/),
      },
    );
    expect(withEncoders(null)).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('note: the checkpoint does not name its text encoders'),
    });
  });

  test('refuses a checkpoint that is not there', () => {
    const refused = orchestrator(
      'sample',
      '--checkpoint',
      join(folder, 'nothing'),
      '--prompt',
      'cross',
      '--out',
      'x.png',
    );
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/ERR_CHECKPOINT_MISSING/);
  });
});

describe('evaluate', () => {
  test('scores every category beside the level of chance', () => {
    const grid = join(folder, 'evaluated.png');
    const done = orchestrator(
      'evaluate',
      '--checkpoint',
      run,
      '--count',
      '3',
      '--steps',
      '2',
      '--grid',
      grid,
    );
    expect(done, done.stderr).toMatchObject({ status: 0 });
    for (const category of ['single object', 'counting', 'position', 'color attribution']) {
      expect(done.stdout).toMatch(new RegExp(`^${category} .*%.*%$`, 'm'));
    }
    expect(done.stdout).toMatch(/^mean of the six of GenEval .*%.*%$/m);
    expect(existsSync(grid)).toBe(true);
    const json = orchestrator('evaluate', '--checkpoint', run, '--count', '3', '--steps', '2', '--json');
    const { score, step, settings } = JSON.parse(json.stdout);
    expect(settings).toEqual({
      steps: 2,
      guidance: 2.5,
      shift: expect.any(Number),
      solver: 'euler',
      schedule: 'uniform',
      seed: 0,
    });
    expect([step, score.categories.length]).toEqual([20, 7]);
  });
});
