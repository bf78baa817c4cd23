/** `orchestrator dataset` as users run it. */
import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../support/folders.js';
import { TRAINING } from '../support/launched.js';
import { orchestrator } from '../support/program.js';

const folder = temporaryFolder();
const FIXED = fileURLToPath(new URL('../fixtures/huggingface/fixed', import.meta.url));
const NESTED = fileURLToPath(new URL('../fixtures/huggingface/nested', import.meta.url));

function shapes(name: string, count: number, seed: number): string {
  const out = join(folder, name);
  const made = orchestrator('dataset', 'shapes', '--out', out, '--count', `${count}`, '--seed', `${seed}`);
  expect(made, made.stderr).toMatchObject({ status: 0, stdout: expect.stringContaining(`${count} rows`) });
  return out;
}

const manifestOf = (dir: string) => JSON.parse(readFileSync(join(dir, 'manifest.json'), 'utf8'));

describe('dataset shapes', () => {
  test('writes the same bytes for the same seed, and others for another', () => {
    const a = manifestOf(shapes('a', 70, 4));
    const b = manifestOf(shapes('b', 70, 4));
    const c = manifestOf(shapes('c', 70, 5));
    expect(a).toEqual(b);
    expect(a.shards[0].sha256).not.toBe(c.shards[0].sha256);
    expect(a.rows).toBe(70);
  });

  test('refuses a folder that is in use, and numbers that are none', () => {
    const out = shapes('used', 3, 0);
    const before = readdirSync(out);
    expect(orchestrator('dataset', 'shapes', '--out', out, '--count', '3')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/error ERR_FILE_WRITE: .*used exists and is not empty\nhint: /),
    });
    expect(readdirSync(out)).toEqual(before);
    for (const count of ['0', '-3', '1e3', 'many']) {
      expect(
        orchestrator('dataset', 'shapes', '--out', join(folder, 'x'), '--count', count).status,
        count,
      ).toBe(2);
    }
    expect(orchestrator('dataset', 'shapes', '--out', join('/proc', 'x'), '--count', '3')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('error ERR_FILE_WRITE: Cannot write /proc/x'),
    });
  });
});

describe('dataset verify', () => {
  test('passes what is whole', () => {
    expect(orchestrator('dataset', 'verify', shapes('whole', 100, 1))).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(
        /100 rows in 1 file, .*every SHA-256 matches; 11 numeric columns, all finite/,
      ),
    });
    expect(orchestrator('dataset', 'verify', NESTED)).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/20 rows in 2 files, .*all finite\n$/),
    });
  });

  test('exits 1 on a flipped bit and says where it is', () => {
    const dir = shapes('flipped', 100, 1);
    const path = join(dir, 'shard-00000.arrow');
    const bytes = readFileSync(path);
    bytes[Math.floor(bytes.length / 2)]! ^= 1;
    writeFileSync(path, bytes);
    expect(orchestrator('dataset', 'verify', dir)).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringMatching(
        /error ERR_DATA_HASH: .*shard-00000\.arrow is damaged: column "[a-z0-9_.]+" differs first within rows \d+ to \d+\. /,
      ),
    });
    truncateSync(path, 5000);
    expect(orchestrator('dataset', 'verify', dir)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('is truncated: it has 5000 bytes'),
    });
  });

  test('records the hashes of a foreign folder, and then finds a flipped bit there, too, before training as well', () => {
    const dir = join(folder, 'recorded');
    cpSync(FIXED, dir, { recursive: true });
    const verify = (...more: string[]) => orchestrator('dataset', 'verify', dir, ...more);
    expect(verify().stdout).toContain('no hashes to compare with (--record creates them)');
    expect(verify().stdout).toMatch(
      /\nnote: flat lists have no shape \(latent, .*\): to train, set data\.latent_shape and data\.text_shape in/,
    );
    expect(verify('--record').stdout).toContain('hashes recorded in SHA256SUMS');
    expect(verify().stdout).toContain('every SHA-256 matches');
    expect(spawnSync('sha256sum', ['--check', 'SHA256SUMS'], { cwd: dir }).status).toBe(0);

    const path = join(dir, 'data-00001-of-00002.arrow');
    const bytes = readFileSync(path);
    bytes[9000]! ^= 1;
    writeFileSync(path, bytes);
    const damaged =
      /error ERR_DATA_HASH: .*data-00001-of-00002\.arrow is damaged or changed\. Its SHA-256 is/;
    expect(verify('--record')).toMatchObject({ status: 1, stderr: expect.stringMatching(damaged) });
    expect(verify().stderr).toContain(
      `or, if you changed it on purpose, delete ${dir}/SHA256SUMS and run orchestrator dataset verify ${dir} --record`,
    );
    const run = orchestrator(
      ...['launch', TRAINING, '--run-dir', join(folder, 'run')],
      ...['--set', `data.path=${dir}`],
    );
    expect(run).toMatchObject({
      status: 1,
      stdout: expect.stringMatching(/ERR_DATA_HASH: .* is damaged or changed/),
    });

    rmSync(path);
    const sums = join(dir, 'SHA256SUMS');
    writeFileSync(sums, readFileSync(sums, 'utf8').replace(/.*data-00000.*\n/, ''));
    cpSync(join(FIXED, 'data-00001-of-00002.arrow'), path);
    expect(verify().stderr).toMatch(/ERR_DATA_HASH: .*SHA256SUMS has no hash of .*data-00000/);
    writeFileSync(sums, `${'0'.repeat(64)}  ../elsewhere\n`);
    expect(verify().stderr).toMatch(/ERR_DATA_FORMAT: .*SHA256SUMS:1: expected a SHA-256/);
  });

  test('exits 1 on a value that is not finite', () => {
    const dir = join(folder, 'infinite');
    spawnSync('cp', ['-r', NESTED, dir]);
    spawnSync('chmod', ['-R', 'u+w', dir]);
    const report = JSON.parse(orchestrator('dataset', 'inspect', NESTED, '--json').stdout);
    expect(report.columns.find((c: { name: string }) => c.name === 'latent').statistics.non_finite).toBe(0);
    const path = join(dir, 'data-00001-of-00002.arrow');
    const bytes = readFileSync(path);
    // The latents' values begin here (the column is the first of numbers); row 3 of this file is row 13.
    bytes.writeUInt16LE(0x7c00, 9440 + 3 * 2048 + 10);
    writeFileSync(path, bytes);
    expect(orchestrator('dataset', 'verify', dir)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(
        /error ERR_DATA_NON_FINITE: .*data-00001-of-00002\.arrow, column "latent", row 13 \(row 3 of the file\): the first of 1 values/,
      ),
    });
  });
});

describe('dataset inspect', () => {
  test('prints columns, shapes, ranges and a histogram', () => {
    const { status, stdout } = orchestrator('dataset', 'inspect', NESTED);
    expect(status).toBe(0);
    expect(stdout).toContain('20 rows in 2 files');
    expect(stdout).toMatch(/latent +16 x 8 x 8 +0 +0\.001709 +0\.8944 +-6\.215 +6\.477 +float16\n/);
    expect(stdout).toMatch(/caption +utf8 +e\.g\. "currency exchange"\n/);
    expect(stdout).toMatch(/histogram of latent, linear scale\n( +-?\d+\.\d{3} .*\n){24}/);
  });

  test('refuses a column that is not there, or has no numbers, and names those that are there', () => {
    const inspect = (column: string) => orchestrator('dataset', 'inspect', NESTED, '--column', column);
    expect(inspect('nope')).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringMatching(/^error ERR_DATA_COLUMN: .* has no column "nope"; it has .*"latent"/),
    });
    expect(inspect('caption')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^error ERR_DATA_TYPE: .*"caption"/),
    });
    expect(inspect('t5').stdout).toContain('histogram of t5, linear scale');
  });

  test('names what is not a data set, and how to make one of the shapes world', () => {
    const missing = (name: string) => orchestrator('dataset', 'inspect', name).stderr;
    expect(missing('nowhere')).toBe(
      `error ERR_FILE_OPEN: There is no data set at ${resolve('nowhere')} (nowhere, relative to the working directory)\n`,
    );
    expect(missing('data/shapes-nowhere')).toMatch(
      /hint: .*: orchestrator dataset shapes --out data\/shapes-nowhere --count 16000\n$/,
    );
  });
});
