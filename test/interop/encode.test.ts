/** scripts/encode.py, with a small pipeline of random weights in SD3's layout, beside diffusers' own pipeline. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { type DataConfig, openDataset } from '../../src/data/dataset.js';
import { conditioningOf } from '../../src/data/features.js';
import { native } from '../../src/native/load.js';
import { temporaryFolder } from '../support/folders.js';
import { because } from '../support/needs.js';
import { orchestrator, succeeds } from '../support/program.js';

const PYTHON = process.env.ORCHESTRATOR_PYTHON ?? 'python3';
const PIPELINE = resolve('test/support/sd3_pipeline.py');
const ENCODE = resolve('scripts/encode.py');
/** Python processes import torch, which takes long where others keep the processors busy; a test has up to seven. */
const TIMEOUT = 1_800_000;

function python(...parameters: string[]) {
  const env = { ...process.env, HF_HUB_OFFLINE: '1', CUDA_VISIBLE_DEVICES: '' };
  return spawnSync(PYTHON, parameters, { encoding: 'utf8', env, maxBuffer: 2 ** 28, timeout: TIMEOUT });
}

const MODULES = ['torch', 'diffusers', 'transformers', 'PIL', 'pyarrow'];
const find = `import importlib.util as u; print(*[m for m in "${MODULES}".split(",") if u.find_spec(m) is None])`;
const probe = python('-c', find);
const missing = probe.status === 0 ? probe.stdout.trim() : 'a Python';
const reason = missing && `needs ${missing} in ${PYTHON} (ORCHESTRATOR_PYTHON)`;

const folder = temporaryFolder();
const [model, pictures] = [join(folder, 'model'), join(folder, 'pictures')];
const SMALL = ['--model', model, '--size', '64', '--batch', '3', '--shard-rows', '4', '--device', 'cpu'];
const IDS = [
  ...['grey-rgb.png', 'grey.png', 'more/0.jpg', 'more/1.jpg', 'more/2.jpg', 'plain.png', 'transparent.png'],
  ...['turned.png', 'white.png', 'wide.png'],
];
const PLAIN = IDS.indexOf('plain.png');
/** It is made unreadable, in the last of three shards. */
const BROKEN = 'wide.png';
const USABLE = IDS.filter((id) => id !== BROKEN);

const encode = (out: string, images: string, ...more: string[]) =>
  python(ENCODE, ...SMALL, '--images', images, '--out', out, ...more);

/** The rows that encode.py finds with each list of parameters, or how it ends; in one process, which imports once. */
const READ = `
import contextlib, io, json, sys
sys.path.insert(0, "scripts")
import encode
for parameters in json.loads(sys.argv[1]):
    sys.argv = ["encode.py", "--model", "m", "--out", "o", *parameters]
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            found = [[row.name, row.captions] for row in encode.read_rows(encode.arguments())]
    except SystemExit as end:
        found = told.getvalue() if end.code == 2 else end.code
    print(json.dumps(found))
`;

function read(...parameters: string[][]): unknown[] {
  const found = python('-c', READ, JSON.stringify(parameters));
  expect(found.status, found.stderr).toBe(0);
  return found.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

const writeLines = (path: string, rows: unknown[]) =>
  writeFileSync(path, rows.map((row) => `${typeof row === 'string' ? row : JSON.stringify(row)}\n`).join(''));

/** Column by the feature that a caption has. */
const featuresOf = (prefix: string) => ({
  ...Object.fromEntries(
    ['clip_l', 'clip_l_pooled', 'clip_g', 'clip_g_pooled', 't5'].map((name) => [name, prefix + name]),
  ),
  ...{ context: null, pooled: null },
});

async function open(path: string, change: Partial<DataConfig> = {}) {
  const columns = {
    id: 'id',
    latent: 'latent',
    latent_logvar: null,
    original: featuresOf(''),
    synthetic: null,
  };
  const config = { path, columns, latent_shape: null, text_shape: null, ...change } as DataConfig;
  const data = await openDataset(config);
  return { data, config };
}

/** The values of a role, row by row. */
async function valuesOf(data: Awaited<ReturnType<typeof open>>['data'], role: string) {
  const dataset = await native().mapDataset(data.spec);
  try {
    return Array.from({ length: data.rows }, (_, row) => Float32Array.from(dataset.row(role, row)));
  } finally {
    dataset.close();
  }
}

const largest = (a: Float32Array | number[], b: Float32Array | number[]) => {
  expect(a.length).toBe(b.length);
  return Math.max(...Array.from(a, (x, i) => Math.abs(x - b[i]!) / (1 + Math.abs(b[i]!))));
};

describe.skipIf(reason)(because('scripts/encode.py', reason || null), { timeout: TIMEOUT }, () => {
  const means = join(folder, 'means');

  beforeAll(() => {
    const made = python(PIPELINE, 'make', model, pictures);
    expect(made.status, made.stderr).toBe(0);
    const encoded = encode(means, pictures, '--mode', 'mean', '--synthetic-extension', '.synthetic.txt');
    expect(encoded.stdout, encoded.stderr).toContain(`${means}: 10 rows.`);
    expect(encoded.stdout).toContain('note: captions of which only the first line is used: 10\n');
    expect(encoded.stdout).toContain('note: pictures smaller than 64 pixels, enlarged: 1');
    expect(encoded.stdout).toMatch(/note: captions longer than the 77 tokens of t5, cut: \d/);
  }, TIMEOUT);

  test("gives the features and latents of diffusers' own pipeline", async () => {
    const compared = python(PIPELINE, 'compare', model, pictures, means);
    expect(compared.status, compared.stderr).toBe(0);
    const theirs = JSON.parse(compared.stdout);
    const { data } = await open(means);
    const { context, pooled } = await conditioningOf(data, [PLAIN], 'original');
    // Features are stored as float16.
    expect(largest(context, theirs.context)).toBeLessThan(2 ** -10);
    expect(largest(pooled, theirs.pooled)).toBeLessThan(2 ** -10);
    const latents = await valuesOf(data, 'latent');
    expect(largest(latents[PLAIN]!, theirs.latent)).toBeLessThan(1e-5);
    if (theirs.loaded !== null) {
      expect(theirs.loaded).toMatchObject({ ids: IDS, t5: [10, 77, 160] });
      expect(theirs.loaded.columns).toContain('synthetic_clip_g_pooled');
    }
  });

  test('turns pictures upright, takes their middle, and shows white through what is transparent', async () => {
    const latents = await valuesOf((await open(means)).data, 'latent');
    const of = (name: string) => latents[IDS.indexOf(name)]!;
    for (const name of ['turned.png', 'wide.png'])
      expect(largest(of(name), of('plain.png'))).toBeLessThan(1e-5);
    expect(largest(of('grey.png'), of('grey-rgb.png'))).toBeLessThan(1e-5);
    expect(largest(of('transparent.png'), of('white.png'))).toBeLessThan(1e-5);
    expect(largest(of('grey.png'), of('plain.png'))).toBeGreaterThan(0.1);
  });

  test('reads captions from files and metadata, and says in which line what is wrong', () => {
    const metadata = (name: string, rows: unknown[]) => {
      const images = join(folder, name);
      mkdirSync(images);
      const path = join(images, name.startsWith('csv') ? 'metadata.csv' : 'metadata.jsonl');
      writeLines(path, rows);
      return { images, path };
    };
    const good = { file_name: 'a.png', text: 'first\nsecond ', synthetic_text: 'made' };
    const both = metadata('both', [good, '', { ...good, text: 'other' }]);
    const words = metadata('words', [good, '', 'a.png: first']);
    const list = metadata('list', [['a.png']]);
    const nameless = metadata('nameless', [{ text: 'first' }]);
    const table = metadata('csv', ['file_name,text', 'a.png,"one, two"', 'b.png,one, two']);
    const files = ['--images', pictures];
    const cases: [string[], unknown][] = [
      [
        ['--images', both.images],
        [
          ['a.png', { original: 'first second', synthetic: 'made' }],
          ['a.png', { original: 'other', synthetic: 'made' }],
        ],
      ],
      [
        ['--images', both.images, '--synthetic-column', 'synthetic'],
        `${both.path} has no column synthetic; it has file_name, synthetic_text, text`,
      ],
      [['--images', both.images, '--caption-column', 'cap'], expect.stringContaining('has no column cap;')],
      [
        ['--images', both.images, '--caption-extension', '.txt'],
        `--caption-extension has no effect: ${both.path} has the captions`,
      ],
      [
        ['--images', both.images, '--synthetic-extension', '.s.txt'],
        expect.stringContaining('--synthetic-extension has no effect'),
      ],
      [['--images', words.images], `${words.path}, line 3: it is not a JSON object`],
      [['--images', list.images], `${list.path}, line 1: it is not a JSON object`],
      [['--images', nameless.images], `${nameless.path}, line 1: it has no file_name`],
      [['--images', table.images], expect.stringContaining(`${table.path}, line 3: it has more fields`)],
      [[...files, '--caption-extension', 'txt'], expect.stringContaining("'txt' must begin with a dot")],
      [
        [...files, '--synthetic-column', 'text2'],
        `--synthetic-column has no effect: there is no metadata.jsonl or metadata.csv in ${pictures}`,
      ],
    ];
    expect(read(...cases.map(([parameters]) => parameters))).toEqual(cases.map(([, expected]) => expected));
  });

  test('is what config new, verify and launch take as it is', async () => {
    const config = join(folder, 'means.yaml');
    succeeds(orchestrator('config', 'new', '--data', means, '--out', config));
    expect(readFileSync(config, 'utf8')).toMatch(/synthetic: \{.*t5: synthetic_t5\}/);
    expect(succeeds(orchestrator('dataset', 'verify', means, '--record'))).toContain('all finite');
    succeeds(orchestrator('dataset', 'verify', '--config', config));
    const short = [
      'schedule={steps: 3, warmup: 1}',
      'batch={global: 4, micro: 4}',
      'model={depth: 1, hidden: 64}',
    ];
    const run = join(folder, 'run');
    const launched = orchestrator(
      ...['launch', config, '--run-dir', run, ...short.flatMap((value) => ['--set', value])],
    );
    expect(succeeds(launched)).toContain('step 3/3');
    expect(succeeds(orchestrator('checkpoint', 'inspect', run))).toMatch(/model\/text_encoder_3/);
  });

  test('names what cannot be encoded, goes on where it ended, and draws the same samples', async () => {
    const [images, out] = [join(folder, 'some'), join(folder, 'samples')];
    cpSync(pictures, images, { recursive: true });
    const caption = join(images, 'more', '1.txt');
    rmSync(caption);
    const first = encode(out, images);
    expect(first.status).toBe(1);
    expect(first.stderr).toContain(`error: ${join(images, 'more', '1.jpg')}: it has no original caption`);
    expect(existsSync(`${out}.partial`)).toBe(false);
    cpSync(join(pictures, 'more', '1.txt'), caption);

    const broken = join(images, BROKEN);
    writeFileSync(broken, readFileSync(broken).subarray(0, 60));
    const second = encode(out, images);
    expect(second.status).toBe(1);
    expect(second.stderr).toMatch(/error: .*wide\.png: \w+: .*\n1 rows cannot be encoded\. Replace/);
    expect(existsSync(out)).toBe(false);
    const shards = ['data-00000-of-00003.arrow', 'data-00001-of-00003.arrow'];
    expect(readdirSync(`${out}.partial`).sort()).toEqual([...shards, 'encoding.json']);
    expect(orchestrator('dataset', 'verify', `${out}.partial`).status).not.toBe(0);
    const other = encode(out, images, '--seed', '2');
    expect(other.stderr).toContain('was begun with other seed');

    const third = encode(out, images, '--skip-broken');
    expect(third.stdout, third.stderr).toContain(`${out}: 9 rows.`);
    for (const shard of shards) expect(third.stdout).not.toContain(shard);
    // It is in a shard that the second command encoded.
    expect(third.stdout).toContain('note: pictures smaller than 64 pixels, enlarged: 1');
    expect(third.stderr.match(/skipped: /g)).toHaveLength(1);
    const { data } = await open(out);
    expect(data.ids(USABLE.map((_, row) => row))).toEqual(USABLE);
    const samples = await valuesOf(data, 'latent');
    expect(await distances(samples, join(folder, 'again'))).toBeLessThan(1e-5);
    expect(await distances(samples, join(folder, 'seed-2'), '--seed', '2')).toBeGreaterThan(0.1);
    await samplesOf(images, samples);
  });

  /** Encodes all pictures with other batches, without an interruption: the largest difference of the usable rows. */
  async function distances(samples: Float32Array[], out: string, ...more: string[]) {
    const encoded = encode(out, pictures, '--batch', '1', '--shard-rows', '100', ...more);
    expect(encoded.stdout, encoded.stderr).toContain(`${out}: 10 rows.`);
    const others = await valuesOf((await open(out)).data, 'latent');
    return Math.max(...USABLE.map((id, row) => largest(samples[row]!, others[IDS.indexOf(id)]!)));
  }

  /** The same rows with their moments, of which the samples must have been drawn. */
  async function samplesOf(images: string, samples: Float32Array[]) {
    const out = join(folder, 'moments');
    const rows = USABLE.map((file_name) => ({ file_name, text: 'a', synthetic_text: 'b' }));
    // Another line for a picture: without a caption it is left out, and the picture's first line is not.
    writeLines(join(images, 'metadata.jsonl'), [...rows, { ...rows[0]!, text: ' ' }]);
    const encoded = encode(out, images, '--mode', 'moments', '--skip-broken');
    expect(encoded.stdout, encoded.stderr).toContain(`${out}: 9 rows.`);
    expect(encoded.stderr.match(/skipped: .*: it has no original caption/g)).toHaveLength(1);
    expect(succeeds(orchestrator('config', 'new', '--data', out))).toMatch(/^ {2}latent_form: mean_logvar$/m);
    const { config } = await open(means);
    const columns = { ...config.columns!, latent: 'moments', synthetic: featuresOf('synthetic_') as never };
    const { data } = await open(out, { columns, latent_form: 'mean_logvar' });
    expect(data.hasSynthetic).toBe(true);
    const [mean, logvar] = [await valuesOf(data, 'latent'), await valuesOf(data, 'latent_logvar')];
    const noise = samples.flatMap((row, r) =>
      Array.from(row, (x, i) => (x - mean[r]![i]!) / Math.exp(logvar[r]![i]! / 2)),
    );
    const average = noise.reduce((a, b) => a + b) / noise.length;
    const deviation = Math.sqrt(noise.reduce((sum, x) => sum + (x - average) ** 2, 0) / noise.length);
    // The noise is 9 x 1024 normal numbers: five standard errors of their mean, and of their deviation.
    expect(Math.abs(average)).toBeLessThan(5 / Math.sqrt(noise.length));
    expect(Math.abs(deviation - 1)).toBeLessThan(5 / Math.sqrt(2 * noise.length));
  }
});
