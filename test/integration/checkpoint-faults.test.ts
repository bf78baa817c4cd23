/** Checkpoints under kill -9, full disks and read-only folders. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { resolveResume } from '../../src/checkpoint/resume.js';
import { recoverStore } from '../../src/checkpoint/retention.js';
import { Safetensors } from '../../src/formats/safetensors/file.js';
import { contentOf } from '../support/checkpoints.js';
import { temporaryFolder } from '../support/folders.js';
import { FULL } from '../support/full.js';
import { unmountable } from '../support/mountable.js';
import { because } from '../support/needs.js';

const WRITER = new URL('checkpoint-writer.mjs', import.meta.url).pathname;
const { layout, metadata } = contentOf(0, 0);
/** The command that writes `count` checkpoints below a folder. */
const writer = (runDir: string, count: number) => [
  WRITER,
  runDir,
  `${count}`,
  JSON.stringify({ layout, metadata }),
];
const KILLS = Number(process.env.ORCHESTRATOR_TEST_FAULTS ?? (FULL ? 40 : 24));

let dir: string;
beforeEach(() => {
  dir = temporaryFolder();
});

/**
 * Runs the writer and kills it `delay` milliseconds after its first line. Returns the last step it announced.
 */
async function writeUntilKilled(delay: number): Promise<number | null> {
  const child = spawn(process.execPath, writer(dir, 1_000_000), { stdio: ['ignore', 'pipe', 'inherit'] });
  let last: number | null = null;
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === 'ready') setTimeout(() => child.kill('SIGKILL'), delay);
    else if (line.startsWith('saved ')) last = Number(line.slice(6));
    else throw new Error(`the writer failed: ${line}`);
  }
  return last;
}

async function constantOf(path: string, prefix: string): Promise<number> {
  const file = await Safetensors.open(path);
  const values = new Set<number>();
  for (const name of file.tensors.keys()) {
    if (!name.startsWith(prefix) || name.endsWith('pos_embed')) continue;
    for (const value of await file.read(name)) values.add(value);
  }
  await file.close();
  expect(values.size).toBe(1);
  return [...values][0]!;
}

/** The latest checkpoint verifies, and all of it is of one moment. Returns its step. */
async function checkLatest(): Promise<number> {
  const found = (await resolveResume('auto', dir))!;
  expect(found.damaged).toEqual([]);
  const { step, planState } = found.manifest;
  const base = step * 64 + Number(planState.variant) * 8;
  expect(await constantOf(join(found.path, 'model.safetensors'), '')).toBe(base);
  expect(await constantOf(join(found.path, 'ema.safetensors'), '')).toBe(base + 1);
  expect(await constantOf(join(found.path, 'optimizer.safetensors'), 'm.')).toBe(base + 2);
  expect(await constantOf(join(found.path, 'optimizer.safetensors'), 'v.')).toBe(base + 3);
  return step;
}

function once(limits = ':'): { code: string; message: string; hint: string | null } | null {
  const command = `${limits}; exec "$0" "$@"`;
  try {
    execFileSync('bash', ['-c', command, process.execPath, ...writer(dir, 1)], {
      encoding: 'utf8',
      stdio: 'pipe',
    });
    return null;
  } catch (error) {
    const { stdout } = error as { stdout: string };
    return JSON.parse(stdout.trim().split('\n').at(-1)!);
  }
}

const names = () => readdirSync(join(dir, 'checkpoints')).sort();

/** Milliseconds in which this machine writes a checkpoint now. */
async function pace(): Promise<number> {
  const child = spawn(process.execPath, writer(temporaryFolder(), 5), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const times: number[] = [];
  for await (const _ of createInterface({ input: child.stdout })) times.push(performance.now());
  return (times.at(-1)! - times[0]!) / 5;
}

test(
  `leaves a loadable checkpoint when killed at any of ${KILLS} moments`,
  async () => {
    let announced = 0;
    let leftovers = 0;
    let mean = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      // Other work may have begun or ended.
      if (kill % 8 === 0) mean = await pace();
      const last = await writeUntilKilled(Math.random() * 4 * mean);
      const root = join(dir, 'checkpoints');
      if (!existsSync(root)) continue;
      leftovers += (await recoverStore(root)).length;
      announced = Math.max(announced, last ?? 0);
      if (announced === 0 && names().length === 0) continue;
      const step = await checkLatest();
      expect(step).toBeGreaterThanOrEqual(announced);
      announced = step;
    }
    // The kills did fall within writes, and the writer did get on between them.
    expect(leftovers).toBeGreaterThan(KILLS / 4);
    expect(announced).toBeGreaterThan(KILLS / 4);
  },
  Math.max(900_000, KILLS * 15_000),
);

describe('a write that fails', () => {
  test('at a limit of the file size leaves the checkpoint before and nothing else', async () => {
    expect(once()).toBeNull();
    const failure = once('ulimit -f 700')!;
    expect(failure).toMatchObject({ code: 'ERR_CHECKPOINT_WRITE', hint: expect.stringContaining('ulimit') });
    expect(failure.message).toMatch(
      /checkpoint of step 2 was not written: .*model\.safetensors.*EFBIG.*untouched/,
    );
    expect(names()).toEqual(['step-00000001']);
    expect(await checkLatest()).toBe(1);
    expect(once()).toBeNull();
    expect(await checkLatest()).toBe(2);
  });

  test('because a file is where the folder should be says so', () => {
    writeFileSync(join(dir, 'checkpoints'), 'mine');
    expect(once()).toMatchObject({
      code: expect.stringMatching(/^ERR_/),
      message: expect.stringMatching(/checkpoints/),
    });
  });

  const root = process.getuid?.() === 0 ? 'needs a user other than root' : null;
  test.skipIf(root)(because('because the folder may not be written says so', root), () => {
    execFileSync('chmod', ['555', dir]);
    expect(once()).toMatchObject({
      code: 'ERR_CHECKPOINT_WRITE',
      message: expect.stringContaining('EACCES'),
    });
    execFileSync('chmod', ['755', dir]);
  });
});

describe.skipIf(unmountable)(because('a small file system of its own', unmountable), () => {
  beforeEach(() => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', dir]);
  });
  afterEach(() => {
    execFileSync('umount', ['-l', dir]);
  });

  test('that is too small is noticed before anything is written', async () => {
    expect(once()).toBeNull();
    const { bavail, bsize } = statfsSync(dir);
    writeFileSync(join(dir, 'filler'), new Uint8Array(bavail * bsize - (1 << 20)));
    const failure = once()!;
    expect(failure).toMatchObject({
      code: 'ERR_CHECKPOINT_WRITE',
      hint: expect.stringContaining('Free some space'),
    });
    expect(failure.message).toMatch(
      /step 2 was not written: .*needs \d\S* MiB and \d\S* MiB for the run's records, and 1\.\d+ MiB are free/,
    );
    expect(names()).toEqual(['step-00000001']);
    expect(await checkLatest()).toBe(1);
  });

  test('that fills up while a checkpoint is written leaves the one before', async () => {
    expect(once()).toBeNull();
    // Room for the folder and two of its files: there is space enough, and yet the third file cannot be made.
    const { files, ffree } = statfsSync(dir);
    execFileSync('mount', ['-o', `remount,size=16m,nr_inodes=${files - ffree + 3}`, dir]);
    const failure = once()!;
    expect(failure.code).toBe('ERR_CHECKPOINT_WRITE');
    expect(failure.message).toMatch(
      /step 2 was not written: .*optimizer\.safetensors.*no space is left on the device \(ENOSPC\)/,
    );
    expect(names()).toEqual(['step-00000001']);
    expect(await checkLatest()).toBe(1);
  });

  test('that is read-only says so', async () => {
    expect(once()).toBeNull();
    execFileSync('mount', ['-o', 'remount,ro', dir]);
    expect(once()).toMatchObject({
      code: 'ERR_CHECKPOINT_WRITE',
      message: expect.stringMatching(/read-only \(EROFS\)/),
      hint: expect.stringContaining('--run-dir'),
    });
    expect(await checkLatest()).toBe(1);
  });
});
