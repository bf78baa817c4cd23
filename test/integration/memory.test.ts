/** Runs that the machine has no memory for: refused before a process is started or a folder made. */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.js';
import { machineMemory } from '../../src/memory/machine.js';
import { totalBytes } from '../../src/memory/parts.js';
import { native } from '../../src/native/load.js';
import { estimate } from '../../src/planning/estimate.js';
import { temporaryFolder } from '../support/folders.js';
import { rows } from '../support/full.js';
import { TRAINING } from '../support/launched.js';
import { orchestratorIn } from '../support/program.js';

const folder = temporaryFolder();

/** Every process of Node.js that is started writes a line here, children and grandchildren too. */
const started = join(folder, 'started');
const witness = join(folder, 'witness.cjs');
writeFileSync(
  witness,
  `require('node:fs').appendFileSync(${JSON.stringify(started)}, process.argv.slice(2).join(' ') + '\\n');`,
);
/** Where the runs would have their folders. */
const work = join(folder, 'work');

beforeEach(() => rmSync(started, { force: true }));

function launch(config: string, ...more: string[]) {
  const env = { NODE_OPTIONS: `--require ${witness}` };
  const ended = orchestratorIn({ cwd: folder, env }, 'launch', resolve(config), ...more);
  return { ...ended, processes: readFileSync(started, 'utf8').trim().split('\n') };
}

const RELEASED = rows(['sd3.5-large'], ['sd3-medium', 'sd3.5-medium']);

function expectRefusal(stderr: string, has: string): void {
  const sentence =
    /^error ERR_OUT_OF_MEMORY: The run needs at least (\S+) GiB of memory, and (.+) (\S+) GiB: (\S+) GiB are missing\. The largest parts: gradients /m;
  const [, needs, whose, there, missing] = sentence.exec(stderr) ?? [];
  expect(whose, stderr).toBe(has);
  expect(Math.abs(Number(needs) - Number(there) - Number(missing))).toBeLessThan(0.25);
  expect(stderr).toMatch(/^hint: what each of these options saves by itself:\n {2}--/m);
}

describe.each(RELEASED)('%s on a machine of 24 GiB', (name) => {
  const config = `configs/${name}.yaml`;
  const size = ['--nodes', '2', '--memory', '24GiB'];

  test('launch is refused with what is missing, and with the data set that is missing too', () => {
    const { status, stdout, stderr, processes } = launch(config, ...size);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expectRefusal(stderr, '--memory says');
    expect(stderr).toMatch(
      /^error ERR_FILE_OPEN: data\.path \(.*\): There is no data set at \/.*\/data\/latents-1024 \(data\/latents-1024, relative/m,
    );
    expect(processes).toHaveLength(1);
    expect(readdirSync(folder).sort()).toEqual(['started', 'witness.cjs']);
  });

  test('launch --dry-run prints the plan, and is refused', () => {
    const { status, stdout, stderr, processes } = launch(config, '--dry-run', ...size, '--run-dir', work);
    expect(status).toBe(1);
    expect(stdout).toMatch(/^data +not here /m);
    expect(stdout).toMatch(/^rank 1 .* memory at least \S+ GiB$/m);
    expectRefusal(stderr, '--memory says');
    expect(processes).toHaveLength(1);
    expect(existsSync(work)).toBe(false);
  });

  test('this machine is what counts where no other is named', async ({ skip }) => {
    const { machine } = await estimate(native(), loadConfig(config, [], {}), 2, null);
    const { bytes, source } = machineMemory();
    skip(bytes >= totalBytes(machine), 'this machine has memory for the run');
    for (const dry of [[], ['--dry-run']]) {
      const { status, stderr } = launch(config, '--nodes', '2', ...dry);
      expect(status).toBe(1);
      expectRefusal(stderr, source);
    }
    expect(readdirSync(folder).sort()).toEqual(['started', 'witness.cjs']);
  });
});

describe('a run that fits', () => {
  test('a run that a smaller machine refuses resumes from its checkpoint on a larger one', () => {
    const sets = [
      'schedule.steps=2',
      'schedule.warmup=0',
      `data.path=${resolve('test/fixtures/huggingface/fixed')}`,
    ];
    const flags = ['--nodes', '2', '--run-dir', work, ...sets.flatMap((set) => ['--set', set])];
    const first = launch(TRAINING, ...flags);
    expect(first.status, first.stderr).toBe(0);
    expect(first.processes.length).toBe(4);
    const before = readFileSync(join(work, 'metrics.jsonl'), 'utf8');
    const longer = ['--set', 'schedule.steps=4'];
    const refused = launch(TRAINING, ...flags, ...longer, '--memory', '100MiB');
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(
      /^error ERR_OUT_OF_MEMORY: .* and --memory says 100 MiB: \d+ MiB are missing/,
    );
    // Nothing of the run's folder was touched.
    expect(readFileSync(join(work, 'metrics.jsonl'), 'utf8')).toBe(before);
    const resumed = launch(TRAINING, ...flags, ...longer, '--memory', '1GiB');
    expect(resumed.status, resumed.stderr).toBe(0);
    expect(resumed.stdout).toContain('(step 2)');
  });

  test('is told of a data set that is missing without a process of its own', () => {
    const { status, stderr, processes } = launch(
      TRAINING,
      '--run-dir',
      join(folder, 'other'),
      '--set',
      'data.path=nowhere',
    );
    expect(status).toBe(1);
    expect(stderr).toBe(
      `error ERR_FILE_OPEN: data.path (--set data.path=nowhere): There is no data set at ${join(folder, 'nowhere')} (nowhere, relative to the working directory)\n`,
    );
    expect(processes).toHaveLength(1);
    expect(existsSync(join(folder, 'other'))).toBe(false);
  });
});

test('--memory wants a size', () => {
  expect(launch('configs/sd3-medium.yaml', '--memory', '24')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('Expected a size in MiB, GiB or TiB, such as 24GiB.'),
  });
});
