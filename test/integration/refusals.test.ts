/**
 * What is refused before the first step leaves the run folder as it was, byte for byte, and a new one does not
 * stay behind; the dry run says the same. What may change at resume takes effect.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { parse } from 'yaml';
import { lockFile } from '../../src/native/lock.js';
import { temporaryFolder } from '../support/folders.js';
import { rows } from '../support/full.js';
import { ends, fingerprint, launch, type Outcome, readLines } from '../support/launched.js';
import { because, needs } from '../support/needs.js';
import { MAIN } from '../support/program.js';
import { copyOfUndisturbed } from '../support/undisturbed.js';

const STEPS = 24;
const FIXTURE = 'test/fixtures/huggingface/fixed';
const folder = temporaryFolder();
const one = join(folder, 'one');
const earlier = join(one, 'checkpoints', 'step-00000021');
const set = (...keys: string[]) => keys.flatMap((key) => ['--set', key]);

/** Every file of a folder with the hash of its contents, and every folder. */
function contentsOf(root: string): Record<string, string> {
  const names = readdirSync(root, { recursive: true, withFileTypes: true });
  return Object.fromEntries(
    names.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      const isFile = entry.isFile();
      return [path, isFile ? createHash('sha256').update(readFileSync(path)).digest('hex') : 'folder'];
    }),
  );
}

/** The launch, and its dry run. */
function both(runDir: string, flags: string[]): Promise<[Outcome, Outcome]> {
  return Promise.all([launch(runDir, 1, ...flags), launch(runDir, 1, ...flags, '--dry-run')]);
}

const NAMESPACES = ['--pid', '--mount', '--net', '--fork', '--mount-proc'];

/** Why there can be no other namespaces; null where there can. */
const noNamespaces =
  needs('unshare') ??
  (spawnSync('unshare', [...NAMESPACES, 'true']).status === 0 ? null : 'needs the right to make namespaces');

const errorLines = (output: string) => output.match(/^error .*$/gm) ?? [];

let before: Record<string, string>;
let reference: Record<string, unknown>;
beforeAll(async () => {
  await copyOfUndisturbed(one);
  reference = fingerprint(one, STEPS);
  before = contentsOf(one);
});

/** A data set like the fixture's, with other contents. */
function otherData(): string {
  const copy = join(folder, 'other-data');
  cpSync(FIXTURE, copy, { recursive: true });
  const file = readdirSync(copy).find((name) => name.endsWith('.arrow'))!;
  const bytes = readFileSync(join(copy, file));
  // A value in the middle of the columns.
  bytes[Math.floor(bytes.length / 2)]! ^= 1;
  writeFileSync(join(copy, file), bytes);
  return copy;
}

describe('refused with a run in the folder', () => {
  const withData = { data: '' };
  beforeAll(() => {
    withData.data = otherData();
  });
  type Row = [name: string, flags: () => string[], words: RegExp];
  const standing: Row[] = [
    [
      'another depth',
      () => set('model.depth=3'),
      /model\.depth was 2 at step 24 and is 3 now \(--set model\.depth=3\)/,
    ],
    ['other data', () => set(`data.path=${withData.data}`), /step-00000024 belongs to another data set/],
    ['a new run', () => ['--resume', 'never'], /ERR_RUN_DIR: .* holds checkpoints up to step 24 already/],
    [
      'an earlier checkpoint with other data',
      () => ['--resume', earlier, ...set(`data.path=${withData.data}`)],
      /step-00000021 belongs to another data set/,
    ],
    ['too little memory', () => ['--memory', '10MiB'], /ERR_OUT_OF_MEMORY: .*--memory says 10 MiB/],
  ];
  const others: Row[] = [
    [
      'another seed',
      () => set('seed=8'),
      /seed was 7 at step 24 and is 8 now \(--set seed=8\); it cannot change/,
    ],
    ['another batch', () => set('batch.global=16'), /batch\.global was 20 at step 24 and is 16 now/],
    [
      'another accumulation',
      () => set('batch.accumulate=5'),
      /batch\.accumulate was 1 at step 24 and is 5 now .* it cannot change/,
    ],
    ['other rows held out', () => set('data.validation_rows=4'), /data\.validation_rows was 8 .* is 4 now/],
    [
      'no data',
      () => set('data.path=no/data'),
      /data\.path \(--set data\.path=no\/data\): There is no data set at \//,
    ],
    ['a batch larger than the data', () => set('batch.global=400'), /batch\.global was 20 .* is 400 now/],
    ['no checkpoint', () => ['--resume', '/no/such'], /--resume \/no\/such: there is nothing at \/no\/such/],
    [
      'an earlier checkpoint with another depth',
      () => ['--resume', earlier, ...set('model.depth=3')],
      /model\.depth was 2 at step 21 and is 3 now/,
    ],
  ];
  test.each(rows(standing, others))(
    '%s: by the launch and by the dry run, in the same words',
    async (_, flags, words) => {
      const [real, dry] = await both(one, flags());
      expect(real).toMatchObject({ code: 1, output: expect.stringMatching(words) });
      expect(real.output).not.toContain('rank 0');
      expect(dry.code).toBe(1);
      expect(errorLines(dry.output)).toEqual(errorLines(real.output));
      expect(contentsOf(one)).toEqual(before);
    },
  );

  test('no GPU', async () => {
    vi.stubEnv('ORCHESTRATOR_CUDA', '/no/such/library.so');
    try {
      for (const { code, output } of await both(one, set('device=cuda'))) {
        expect(code).toBe(1);
        expect(output).toContain('ERR_CUDA: device: cuda needs a GPU');
      }
    } finally {
      vi.unstubAllEnvs();
    }
    expect(contentsOf(one)).toEqual(before);
  });

  test('metrics on an address of another machine', async () => {
    // An address of TEST-NET-1, which no machine has.
    const there = ['metrics_port=9464', 'metrics_host=192.0.2.1'].flatMap((value) =>
      set(`telemetry.${value}`),
    );
    for (const { code, output } of await both(one, ['--resume', earlier, ...there])) {
      expect(code).toBe(1);
      expect(output).toContain('ERR_PORT: Cannot serve metrics on 192.0.2.1, port 9464: ');
    }
    expect(contentsOf(one)).toEqual(before);
  });

  test('a lock that is held', async () => {
    const runDir = join(folder, 'locked');
    cpSync(one, runDir, { recursive: true });
    writeFileSync(join(runDir, 'lock'), JSON.stringify({ pid: process.pid, started: null }));
    const locked = contentsOf(runDir);
    for (const { code, output } of await both(runDir, [])) {
      expect({ code, output }).toMatchObject({ code: 1, output: expect.stringContaining('ERR_RUN_LOCKED') });
    }
    expect(contentsOf(runDir)).toEqual(locked);
  });

  // As from another container: process ids, mounts and networks are its own.
  test.skipIf(noNamespaces)(because('a lock that is held elsewhere', noNamespaces), () => {
    const runDir = join(folder, 'locked-elsewhere');
    cpSync(one, runDir, { recursive: true });
    const unlock = lockFile(join(runDir, 'lock'));
    const locked = contentsOf(runDir);
    const from = [...NAMESPACES, process.execPath, MAIN];
    const inside = (...words: string[]) => spawnSync('unshare', [...from, ...words], { encoding: 'utf8' });
    const { status, stderr } = inside('launch', 'test/integration/training.yaml', '--run-dir', runDir);
    expect(stderr).toContain(
      `${runDir}/lock is held by process ${process.pid} of another container or machine`,
    );
    expect(status).toBe(1);
    expect(inside('stop', runDir).stderr).toContain('Stop it from there');
    expect(contentsOf(runDir)).toEqual(locked);
    unlock();
  });

  test('by the workers, before the first step: an earlier checkpoint on data that is damaged', async () => {
    const data = join(folder, 'damaged-data');
    cpSync(FIXTURE, data, { recursive: true });
    const sums = readdirSync(data)
      .filter((name) => /\.(arrow|json)$/.test(name))
      .map((name) => `${'0'.repeat(64)}  ${name}\n`);
    writeFileSync(join(data, 'SHA256SUMS'), sums.join(''));
    const flags = ['--resume', earlier, ...set(`data.path=${data}`)];
    const { code, output } = await launch(one, 2, ...flags);
    expect({ code, output }).toMatchObject({
      code: 1,
      output: expect.stringMatching(/ERR_DATA_HASH: (rank|worker) .* is damaged/),
    });
    expect(contentsOf(one)).toEqual(before);
    const dry = await launch(one, 2, ...flags, '--dry-run');
    expect(dry).toMatchObject({ code: 1, output: expect.stringContaining('ERR_DATA_HASH') });
  });

  test('then the plain command resumes where the run was', async () => {
    const { output } = await ends(launch(one, 1), 0);
    expect(output).not.toContain('steps 25 to 24');
    expect(contentsOf(one)).toEqual(before);
    const runDir = join(folder, 'on');
    cpSync(one, runDir, { recursive: true });
    const earlierOne = join(runDir, 'checkpoints', 'step-00000021');
    const { output: again } = await ends(launch(runDir, 2, '--resume', earlierOne), 0);
    expect(again).toMatch(/step-00000024 is later than step 21, .*; `--resume auto` takes the latest$/m);
    expect(again).toMatch(/^steps 22 to 24, which this folder recorded, came after the checkpoint: /m);
    expect(fingerprint(runDir, STEPS)).toEqual(reference);
  });
});

describe('refused in a new folder', () => {
  test.each(
    rows<[name: string, flags: string[], words: RegExp]>(
      [['init that is not there', set('init=/no/such'), /init \(.*\): there is nothing at \/no\/such/]],
      [
        ['too many rows held out', set('data.validation_rows=48'), /Left to train on: none/],
        ['latents larger than the grid', set('model.pos_embed_max_size=2'), /pos_embed_max_size/],
        [
          'a batch larger than the data',
          set('batch.global=400'),
          /Left to train on: 40, fewer than one batch/,
        ],
      ],
    ),
  )('%s: no folder stays', async (_, flags, words) => {
    const runDir = join(folder, 'new', 'run');
    const [real, dry] = await both(runDir, flags);
    expect(real.code).not.toBe(0);
    expect(real.output).toMatch(words);
    expect(dry.code).toBe(real.code);
    expect(errorLines(dry.output)).toEqual(errorLines(real.output));
    expect(existsSync(join(folder, 'new'))).toBe(false);
  });

  test('by the workers', async () => {
    const runDir = join(folder, 'new', 'run');
    const { code } = await launch(runDir, 2, ...set(`data.path=${join(folder, 'damaged-data')}`));
    expect(code).toBe(1);
    expect(existsSync(join(folder, 'new'))).toBe(false);
  });

  test.each(
    rows<[name: string, runDir: () => string, words: RegExp]>(
      [['of a checkpoint', () => earlier, /is a folder of data or weights \(it holds /]],
      [
        ['of data', () => FIXTURE, /is a folder of data or weights \(it holds /],
        ['that is a file', () => 'package.json', /ERR_RUN_DIR: .*package\.json: it is a file, not a folder/],
      ],
    ),
  )('a folder %s', async (_, runDir, words) => {
    for (const { code, output } of await both(runDir(), [])) {
      expect(code).toBe(1);
      expect(output).toMatch(words);
    }
    expect(contentsOf(one)).toEqual(before);
  });
});

describe('what may change at resume', () => {
  test('takes effect, is said, and the former configuration is kept', async () => {
    const runDir = join(folder, 'changed');
    cpSync(one, runDir, { recursive: true });
    const data = join(folder, 'moved-data');
    mkdirSync(data);
    cpSync(FIXTURE, data, { recursive: true });
    const changes: [key: string, value: unknown][] = [
      ['name', 'renamed'],
      ['data.path', data],
      ['data.synthetic_captions', 0],
      ['data.drop.clip_l', 0.1],
      ['objective.shift', 3],
      ['batch.micro', 5],
      ['optimizer.lr', 0.0001],
      ['optimizer.betas', [0.8, 0.99]],
      ['optimizer.eps', 1e-6],
      ['optimizer.weight_decay', 0],
      ['optimizer.clip_norm', 0.5],
      ['schedule.steps', 27],
      ['schedule.warmup', 2],
      ['schedule.decay', 'constant'],
      ['schedule.final', 0.5],
      ['ema.decay', 0.5],
      ['ema.every', 3],
      ['precision.compute', 'fp32'],
      ['precision.residual', 'fp32'],
      ['activation_checkpointing', 'block'],
      ['threads', 2],
      ['threads_per_slot', 1],
      ['exchange', 'grpc'],
      ['freeze', ['context_embedder.*']],
      ['validation.every', 2],
      ['validation.bins', 2],
      ['telemetry.attention_every', 1],
      ['checkpoint.every', 2],
      ['checkpoint.keep', 1],
    ];
    const flags = set(...changes.map(([key, value]) => `${key}=${JSON.stringify(value)}`), 'init=/no/such');
    const { output } = await ends(launch(runDir, 2, ...flags), 0);
    for (const [key] of changes)
      expect(output).toMatch(new RegExp(`^${key} was .* at step 24 and is .* now`, 'm'));
    expect(output).toMatch(
      /^init was null .* now .*: ignored, because the weights are those of the checkpoint$/m,
    );
    const now = parse(readFileSync(join(runDir, 'config.yaml'), 'utf8'));
    for (const [key, value] of changes) {
      expect(
        key.split('.').reduce((at, part) => at[part], now),
        key,
      ).toEqual(value);
    }
    expect(now.init).toBeNull();
    expect(readFileSync(join(runDir, 'config.1.yaml'), 'utf8')).toBe(
      readFileSync(join(one, 'config.yaml'), 'utf8'),
    );
    const lines = readLines(join(runDir, 'metrics.jsonl'));
    const rates = lines.filter(({ type, step }) => type === 'step' && (step as number) > 24);
    expect(rates.map(({ step, learning_rate }) => [step, learning_rate])).toEqual([
      [25, 0.0001],
      [26, 0.0001],
      [27, 0.0001],
    ]);
    // The same command without the changes refuses nothing but goes back to the file's values.
    const { output: dry } = await ends(launch(runDir, 1, '--dry-run'), 0);
    expect(dry).toContain('already at step 27 of 24: nothing to do');
  });

  test('the average may be given up, not begun', async () => {
    const runDir = join(folder, 'averaged');
    cpSync(one, runDir, { recursive: true });
    const without = set('ema=null', 'validation.weights=[master]', 'schedule.steps=25');
    const { output: given } = await ends(launch(runDir, 1, ...without), 0);
    expect(given).toMatch(
      /^warn ema was .* at step 24 and is null now .*: the average is given up; it cannot begin again within the run$/m,
    );
    expect(existsSync(join(runDir, 'checkpoints', 'step-00000025', 'ema.safetensors'))).toBe(false);
    const { code, output } = await launch(runDir, 1, ...set('schedule.steps=26'));
    expect({ code, output }).toMatchObject({
      code: 1,
      output: expect.stringMatching(
        /ema was null at step 25 and is .* now.*holds no average[\s\S]*--set ema=null/,
      ),
    });
  });

  test('a run folder serves as init: the model and the master weights of its latest checkpoint', async () => {
    const runDir = join(folder, 'from-run');
    const flags = set(
      `init=${one}`,
      'schedule.steps=1',
      'schedule.warmup=0',
      'optimizer.lr=0',
      'batch.global=10',
      'batch.micro=5',
    );
    const { output } = await ends(launch(runDir, 1, ...flags), 0);
    expect(output).toMatch(
      /^starting from the weights of .*step-00000024\/model\.safetensors, the master weights of step 24: /m,
    );
    const bits = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
    const weights = (run: string, step: string) =>
      readFileSync(join(run, 'checkpoints', step, 'model.safetensors'));
    const body = (bytes: Buffer) => bytes.subarray(8 + Number(bytes.readBigUInt64LE(0)));
    expect(body(weights(runDir, 'step-00000001')).equals(body(weights(one, 'step-00000024')))).toBe(true);
    expect(bits(join(one, 'config.yaml'))).toBe(before[join(one, 'config.yaml')]);
  });
});
