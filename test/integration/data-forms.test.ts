/**
 * Data as people prepare it: the autoencoder's posterior, joined prompt embeddings, bfloat16, selected rows, and
 * rows that are not finite (test/fixtures/prepared/make.py).
 */
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { openDataset } from '../../src/data/dataset.js';
import { native } from '../../src/native/load.js';
import { temporaryFolder } from '../support/folders.js';
import { fingerprint } from '../support/launched.js';
import { orchestrator, orchestratorIn, succeeds } from '../support/program.js';

const PREPARED = fileURLToPath(new URL('../fixtures/prepared', import.meta.url));
const STEPS = 5;
const folder = temporaryFolder();

const DATA = {
  columns: { latent: 'moments', original: { context: 'prompt_embeds', pooled: 'pooled_prompt_embeds' } },
  text_shape: { clip_l: [2, 8], clip_g: [2, 8], t5: [4, 24] },
  bfloat16: ['prompt_embeds'],
  latent_form: 'mean_logvar',
  latent_shift: 0.0609,
  latent_scale: 1.5305,
  validation_rows: 4,
};

/** A configuration file for the set at `path`. */
function configOf(name: string, path: string, more: object = {}): string {
  const file = join(folder, `${name}.yaml`);
  const config = {
    name,
    data: { ...DATA, path, ...more },
    model: { depth: 1, hidden: 64, latent_channels: 4, pos_embed_max_size: 4 },
    batch: { global: 6, micro: 2 },
    schedule: { steps: STEPS, warmup: 0 },
    validation: { every: 3, bins: 2, weights: ['master'] },
    telemetry: { metrics_port: null },
    threads: 1,
  };
  writeFileSync(file, JSON.stringify(config));
  return file;
}

function launch(config: string, runDir: string, ...more: string[]) {
  return orchestrator('launch', config, '--run-dir', runDir, ...more);
}

/** A copy of the set whose first value of `row`, of the first 12, is a NaN. */
function withNaN(name: string, row: number): string {
  const dir = join(folder, name);
  cpSync(PREPARED, dir, { recursive: true });
  const path = join(dir, 'data-00000-of-00002.arrow');
  const bytes = readFileSync(path);
  const { segments, rowBytes } = momentsIn;
  bytes.writeUInt16LE(0x7e00, segments[3]! + row * rowBytes);
  writeFileSync(path, bytes);
  return dir;
}

const config = (path: string) => ({ ...DATA, path }) as unknown as Parameters<typeof openDataset>[0];
const opened = await openDataset({
  ...config(PREPARED),
  columns: {
    ...{ id: null, latent: 'moments', latent_logvar: null, synthetic: null },
    original: {
      ...{ clip_l: null, clip_l_pooled: null, clip_g: null, clip_g_pooled: null, t5: null },
      ...{ context: 'prompt_embeds', pooled: 'pooled_prompt_embeds' },
    },
  },
});
const momentsIn = opened.spec.columns.find(({ role }) => role === 'latent')!;

describe('a prepared set', () => {
  test('is opened by what it is', async () => {
    expect(opened).toMatchObject({
      rows: 24,
      latent: [4, 8, 8],
      text: {
        clipTokens: 2,
        t5Tokens: 4,
        clipLDim: 8,
        clipGDim: 8,
        t5Dim: 24,
        clipLPooledDim: 8,
        clipGPooledDim: 8,
      },
    });
    expect(opened.spec.columns.map(({ role, type }) => [role, type])).toEqual([
      ['latent', 'float16'],
      ['latent_logvar', 'float16'],
      ['original.context', 'bfloat16'],
      ['original.pooled', 'float64'],
    ]);
    const rows = await native().mapDataset(opened.spec);
    const mean = (role: string) => {
      const values = [0, 11, 12, 23].flatMap((row) => [...rows.row(role, row)]);
      return values.reduce((sum, x) => sum + x, 0) / values.length;
    };
    expect(mean('latent')).toBeCloseTo(0.06, 0);
    expect(mean('latent_logvar')).toBeCloseTo(-4, 1);
    rows.close();
  });

  test('verifies for its configuration, in which a ragged column plays no part', () => {
    const file = configOf('verified', PREPARED);
    const verified = orchestrator('dataset', 'verify', '--config', file);
    expect(verified).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/24 rows in 2 files, .*; 4 numeric columns, all finite\n$/),
      stderr: expect.stringMatching(/^warn .*column "ragged", row 1: expected a list .*\(not used\)$/m),
    });
    // Without a configuration, what no run could read is told, and blocks nothing either.
    const alone = orchestrator('dataset', 'verify', PREPARED);
    expect(alone).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('2 numeric columns, all finite'),
    });
    expect(alone.stderr).toMatch(
      /^warn .*"prompt_embeds".* uint16 \(a run cannot use the column as it is\)$/m,
    );
    expect(alone.stderr).not.toContain('caption');
    const unscaled = configOf('unscaled', PREPARED, { latent_shift: 0, latent_scale: 1 });
    expect(orchestrator('dataset', 'verify', PREPARED, '--config', unscaled).stderr).toMatch(
      /warn .*standard deviation 0\.6\d, where about 0 and 1 are expected: set data\.latent_shift to 0\.0\d+ and data\.latent_scale to 1\.\d+/,
    );
    const patches = configOf('patches', PREPARED);
    const changed = JSON.parse(readFileSync(patches, 'utf8'));
    writeFileSync(patches, JSON.stringify({ ...changed, model: { ...changed.model, patch: 3 } }));
    expect(orchestrator('dataset', 'verify', '--config', patches)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(
        /ERR_DATA_SHAPE: model\.patch is 3, .*data-00000-of-00002\.arrow: 4 x 8 x 8/,
      ),
    });
  });

  test('warns before a run of latents that are not scaled', () => {
    const file = configOf('launched-unscaled', PREPARED, { latent_shift: 0, latent_scale: 1 });
    expect(orchestrator('launch', file, '--dry-run')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/warn .*the latents have .*set data\.latent_shift to/m),
    });
  });

  test('is digested once, unless --no-cache says otherwise', () => {
    const env = { XDG_CACHE_HOME: join(folder, 'cache') };
    const file = configOf('cached', PREPARED);
    const dryRun = (...more: string[]) =>
      succeeds(orchestratorIn({ env }, 'launch', file, '--dry-run', ...more));
    // These latents are scaled, so there is no warning.
    expect(dryRun()).not.toContain('data.latent_shift');
    const entries = join(env.XDG_CACHE_HOME, 'orchestrator', 'data-sets');
    const entry = join(entries, readdirSync(entries)[0]!);
    const digest = readFileSync(entry, 'utf8');
    const other = `{"digest": "${'0'.repeat(64)}"}`;
    writeFileSync(entry, other);
    dryRun();
    expect(readFileSync(entry, 'utf8')).toBe(other);
    dryRun('--no-cache');
    expect(readFileSync(entry, 'utf8')).toBe(digest);
  });

  test('trains with the same bits on any number of workers, and after a checkpoint', () => {
    const file = configOf('trained', PREPARED);
    const [one, two, resumed] = ['one', 'two', 'resumed'].map((name) => join(folder, name));
    const run = (dir: string, ...more: string[]) =>
      expect(launch(file, dir, '--set', 'schedule.decay=constant', ...more)).toMatchObject({ status: 0 });
    run(one!);
    run(two!, '--nodes', '2', '--set', 'exchange=grpc');
    expect(fingerprint(two!, STEPS)).toEqual(fingerprint(one!, STEPS));
    run(resumed!, '--set', 'schedule.steps=2');
    run(resumed!, '--nodes', '3');
    expect(fingerprint(resumed!, STEPS).model).toBe(fingerprint(one!, STEPS).model);
  });
});

describe('rows that are not finite', () => {
  test('end the run, or have the weight 0 wherever they are drawn', () => {
    const dir = withNaN('nan', 3);
    const failed = launch(configOf('fails', dir), join(folder, 'fails'));
    expect(failed).toMatchObject({ status: 1 });
    expect(failed.stdout + failed.stderr).toContain('ERR_NON_FINITE');

    const file = configOf('skips', dir, { on_non_finite: 'skip' });
    expect(orchestrator('launch', file, '--dry-run').stdout).toMatch(
      /warn .*: 1 row will be skipped, because values are not finite: 3$/m,
    );
    const runs = ['skip-1', 'skip-2'].map((name, i) => {
      const runDir = join(folder, name);
      const run = launch(file, runDir, '--nodes', `${i + 1}`, '--set', 'schedule.steps=8');
      expect(run, run.stdout + run.stderr).toMatchObject({ status: 0 });
      expect(run.stdout.match(/row 3: a stored value is not finite: weight 0/g)).toHaveLength(1);
      return fingerprint(runDir, 8);
    });
    expect(runs[1]).toEqual(runs[0]);
    // The row keeps its place.
    const rows = succeeds(orchestrator('rows', join(folder, 'skip-1'), '1-8', '--json'));
    const steps = JSON.parse(rows) as { slots: number[][] }[];
    expect(steps.flatMap(({ slots }) => slots.flat())).toContain(3);
  });

  test('are named by verify', () => {
    const dir = withNaN('named', 7);
    expect(orchestrator('dataset', 'verify', '--config', configOf('strict', dir))).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(
        /ERR_DATA_NON_FINITE: .*data-00000-of-00002\.arrow, column "latent", row 7 \(row 7 of the file\)/,
      ),
    });
    const skips = configOf('lenient', dir, { on_non_finite: 'skip' });
    expect(orchestrator('dataset', 'verify', '--config', skips, '--record')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('hashes recorded in SHA256SUMS; 4 numeric columns, with rows to skip'),
      stderr: expect.stringMatching(/warn .*row 7 .*\(skipped: data\.on_non_finite\)/),
    });
    expect(readdirSync(dir)).toContain('SHA256SUMS');
    // Without a configuration nobody knows whether a run reads the column.
    const unknown = withNaN('unknown', 7);
    expect(orchestrator('dataset', 'verify', unknown)).toMatchObject({ status: 1 });
    expect(orchestrator('dataset', 'verify', unknown, '--record')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('hashes recorded in SHA256SUMS'),
      stderr: expect.stringMatching(/warn .*row 7 .*\(a run that reads this column ends with it\)/),
    });
  });
});

describe('what an older version of `datasets` selected', () => {
  test("is what is trained on, whoever's manifest.json is in the folder", () => {
    const dir = join(folder, 'selected');
    cpSync(PREPARED, dir, { recursive: true });
    const state = JSON.parse(readFileSync(join(dir, 'state.json'), 'utf8'));
    const select = (filename: string) =>
      writeFileSync(
        join(dir, 'state.json'),
        JSON.stringify({ ...state, _indices_data_files: [{ filename }] }),
      );
    select('indices.arrow');
    writeFileSync(join(dir, 'manifest.json'), '{"manifest_version": 3, "name": "a web app"}');
    const report = JSON.parse(orchestrator('dataset', 'inspect', dir, '--json').stdout);
    expect(report).toMatchObject({ format: 'huggingface', rows: 6 });
    const caption = report.columns.find(({ name }: { name: string }) => name === 'caption');
    expect(caption.example).toBe('caption 20');
    select('data-00000-of-00002.arrow');
    expect(orchestrator('dataset', 'inspect', dir).stderr).toMatch(/ERR_DATA_COLUMN: .*no column "indices"/);
  });
});
