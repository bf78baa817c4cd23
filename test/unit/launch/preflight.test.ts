import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { reportError } from '../../../src/cli/report.js';
import { loadConfigWithSources } from '../../../src/config/load.js';
import { OrchestratorError, refuse } from '../../../src/errors.js';
import { type Preflight, preflight } from '../../../src/launch/preflight.js';
import { totalBytes } from '../../../src/memory/parts.js';
import type { CudaDevice, NativeAddon } from '../../../src/native/contract.js';
import { hostOf } from '../../../src/native/host.js';
import { native } from '../../../src/native/load.js';
import { estimate, estimateFor } from '../../../src/planning/estimate.js';
import { findSavings, type Run } from '../../../src/planning/savings.js';
import { yaml } from '../../support/config.js';
import { temporaryFolder } from '../../support/folders.js';
import { TRAINING } from '../../support/launched.js';

const GIB = 2 ** 30;
const machine = (bytes: number, free = bytes) => ({ bytes, source: 'this machine has', free });
/** One a worker, as two workers on two processors have. */
const SETS = ['threads=1'];
const released = (name: string, ...sets: string[]) =>
  loadConfigWithSources(`configs/${name}.yaml`, [...SETS, 'telemetry.metrics_port=null', ...sets], {});
const REAL = { workers: 2, runDir: join(temporaryFolder(), 'run'), resume: 'auto', memory: null, dry: false };

/** The addon on a machine with these GPUs. */
function withGpus(...gibs: number[]): NativeAddon {
  const devices = gibs.map(
    (gib, i): CudaDevice => ({
      name: `GPU of ${gib} GiB`,
      memoryBytes: gib * GIB,
      libraries: '',
      problem: gib === 0 ? `no memory, number ${i}` : null,
    }),
  );
  return { ...native(), planFigures: native().planFigures, cudaDevices: async () => devices };
}

/** Warnings without that of the disk, which depends on this machine. */
const memoryWarnings = ({ warnings }: Preflight) =>
  warnings.filter((text) => !text.startsWith('A checkpoint '));

describe('before a run', () => {
  test.each([
    ['sd3-medium', '230.4', '206.4'],
    ['sd3.5-medium', '257.7', '233.8'],
    ['sd3.5-large', '903.2', '879.2'],
  ])('%s is refused on 24 GiB, and the missing data set is told as well', async (name, need, missing) => {
    const found = await preflight(native(), released(name), REAL, machine(24 * GIB));
    const [shortage] = found.shortages;
    expect(found.shortages).toHaveLength(1);
    expect(shortage?.code).toBe('ERR_OUT_OF_MEMORY');
    const words = /needs at least (\S+) GiB of memory, and this machine has 24\.0 GiB: (\S+) GiB are missing/;
    const [, needed, missed] = words.exec(shortage?.message ?? '') ?? [];
    // Scratch memory of the matmuls depends on the instruction set.
    expect(Math.abs(Number(needed) - Number(need))).toBeLessThan(1);
    expect(Math.abs(Number(missed) - Number(missing))).toBeLessThan(1);
    expect(found.noData).toMatchObject({ code: 'ERR_FILE_OPEN' });
    expect(memoryWarnings(found)).toEqual([]);
  });

  test('hints name what is saved by each change, and what is missing even so', async () => {
    const { shortages } = await preflight(native(), released('sd3-medium'), REAL, machine(24 * GIB));
    const hint = shortages[0]?.hint ?? '';
    expect(hint).toMatch(/^ {2}--set batch\.accumulate=512 +13\d\.\d GiB$/m);
    expect(hint).toMatch(/^ {2}--nodes 1 --nproc-per-node 1 +7\d\.\d GiB$/m);
    expect(hint).toMatch(/^ {2}--set ema=null +22\.7 GiB$/m);
    expect(hint).toMatch(/^ {2}--set activation_checkpointing=block +5\.\d GiB$/m);
    expect(hint).toMatch(
      /^ {2}--set activation_checkpointing=block --nodes 1 --nproc-per-node 1 --set batch\.accumulate=1024 .*together need \d+\.\d GiB, \d+\.\d GiB are still missing$/m,
    );
    expect(hint).toMatch(
      /^ {2}--set device=cuda takes 11\d\.\d GiB of a GPU for each worker, and 6\d\.\d GiB of the machine$/m,
    );
    // What changes nothing is not told: one thread a worker has one slot at a time already, and bf16 is set.
    expect(hint).not.toContain('threads_per_slot');
    expect(hint).not.toContain('precision.compute');
    const enough = await preflight(native(), released('sd3-medium'), REAL, machine(200 * GIB));
    expect(enough.shortages[0]?.hint).toMatch(/ together need \d+\.\d GiB, which fits$/m);
  });

  test('a machine that is large enough is told nothing, a busy one is warned of', async () => {
    const config = released('sd3-medium');
    const large = await preflight(native(), config, REAL, machine(512 * GIB));
    expect(large.shortages).toEqual([]);
    expect(memoryWarnings(large)).toEqual([]);
    const need = totalBytes(large.figures.machine);
    const exact = await preflight(native(), config, REAL, machine(need));
    expect(exact.shortages).toEqual([]);
    expect(memoryWarnings(exact)).toEqual([]);
    const busy = await preflight(native(), config, REAL, machine(512 * GIB, 100 * GIB));
    expect(busy.shortages).toEqual([]);
    expect(memoryWarnings(busy)).toEqual([
      expect.stringMatching(
        /^The run needs .* and this machine has 512\.0 GiB, of which 100\.0 GiB are free now/,
      ),
    ]);
  });

  test('--memory takes the place of the machine, for a plan and for a run', async () => {
    const config = released('sd3-medium');
    const small = machine(24 * GIB);
    const plan = await preflight(native(), config, { ...REAL, memory: 512 * GIB, dry: true }, small);
    expect(plan.shortages).toEqual([]);
    expect(memoryWarnings(plan)).toEqual([]);
    // The user knows better than the machine, and hears of it all the same.
    const run = await preflight(native(), config, { ...REAL, memory: 512 * GIB }, small);
    expect(run.shortages).toEqual([]);
    expect(memoryWarnings(run)).toEqual([expect.stringContaining('this machine has 24.0 GiB, of which')]);
    const less = await preflight(
      native(),
      config,
      { ...REAL, memory: 8 * GIB, dry: true },
      machine(512 * GIB),
    );
    expect(less.shortages[0]?.message).toContain(', and --memory says 8.0 GiB: ');
  });

  test('a GPU is compared with the workers that are on it, the machine with their processes', async () => {
    const config = released('sd3-medium', 'device=cuda');
    const two = await preflight(withGpus(141, 141), config, REAL, machine(512 * GIB));
    expect(two).toMatchObject({ shortages: [], noGpu: null });
    expect(two.gpus?.map(({ ordinal }) => ordinal)).toEqual([0, 1]);
    const one = await preflight(withGpus(141), config, REAL, machine(512 * GIB));
    expect(one.shortages).toHaveLength(1);
    expect(one.shortages[0]?.message).toMatch(
      /^On GPU 0 2 workers need at least 23\d\.\d GiB of memory, and GPU of 141 GiB has 141\.0 GiB: 9\d\.\d GiB are missing\. The largest parts: gradients 151\.1 GiB/,
    );
    // Among several GPUs the one that lacks most memory is reported; an unusable GPU is skipped.
    const mixed = await preflight(withGpus(141, 0, 80), config, REAL, machine(24 * GIB));
    expect(mixed.shortages.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^The run needs at least 6\d\.\d GiB of memory, and this machine has 24\.0 GiB/),
      expect.stringMatching(
        /^On GPU 2 1 worker needs at least 11\d\.\d GiB of memory, and GPU of 80 GiB has/,
      ),
    ]);
    expect(mixed.shortages[1]?.hint).not.toContain('device=cuda');
  });

  test('without a GPU the run is of another machine, whose memory may be given', async () => {
    const config = released('sd3-medium', 'device=cuda');
    const dry = await preflight(withGpus(0), config, { ...REAL, dry: true }, machine(24 * GIB));
    expect(dry).toMatchObject({ shortages: [], warnings: [], gpus: null, noGpu: { code: 'ERR_CUDA' } });
    const given = await preflight(
      withGpus(),
      config,
      { ...REAL, memory: 32 * GIB, dry: true },
      machine(24 * GIB),
    );
    expect(given.shortages).toHaveLength(1);
    expect(given.shortages[0]?.message).toContain('--memory says 32.0 GiB');
  });

  test('what is small or crowded is warned of: rows held out, threads beyond the processors', async () => {
    const warningsOf = async (text: string, ...sets: string[]) => {
      const loaded = loadConfigWithSources(yaml(text), ['telemetry.metrics_port=null', ...sets], {});
      return (await preflight(native(), loaded, { ...REAL, workers: 1 })).warnings.join('\n');
    };
    const training = readFileSync(TRAINING, 'utf8');
    const chosen = await warningsOf(training);
    expect(chosen).not.toContain('held out');
    // Also by choice: nobody learns from these rows.
    expect(await warningsOf(training, 'data.validation_rows=20')).toMatch(
      /^20 of 48 rows \(42 %\) are held out .*: data\.validation_rows is 20, set at --set data\.validation_rows=20; lower it/m,
    );
    const threads = native().host().processors + 1;
    expect(await warningsOf(training, `threads=${threads}`)).toContain(`1 worker of ${threads} threads on`);
    // By default 256 rows would be held out, more than there are.
    const byDefault = training.replace(/^ {2}validation_rows: .*$/m, '');
    await expect(warningsOf(byDefault)).rejects.toMatchObject({ code: 'ERR_DATA_EMPTY' });
  });

  test('threads that would starve the machine are refused, except for another machine', async () => {
    const most = 16 * hostOf(native()).processors;
    const loaded = (threads: number) =>
      loadConfigWithSources(TRAINING, ['telemetry.metrics_port=null', `threads=${threads}`], {});
    const config = loaded(most + 1);
    const { problems, warnings } = await preflight(native(), config, REAL);
    expect(problems).toMatchObject([
      {
        code: 'ERR_CONFIG',
        message: expect.stringMatching(
          `^threads \\(--set threads=${most + 1}\\): expected at most ${most}, 16 for each of the .*, received ${most + 1}$`,
        ),
      },
    ]);
    expect(warnings.join()).not.toContain('threads');
    expect((await preflight(native(), loaded(most), REAL)).problems).toEqual([]);
    const elsewhere = await preflight(native(), config, { ...REAL, memory: 64 * GIB, dry: true });
    expect(elsewhere.problems).toEqual([]);
  });

  test('workers that share a GPU cannot use NCCL', async () => {
    const config = released('sd3-medium', 'device=cuda', 'exchange=nccl');
    const { problems } = await preflight(withGpus(512), config, REAL, machine(512 * GIB));
    expect(problems.map(({ message }) => message)).toContain(
      'exchange: nccl cannot connect the GPUs. ranks 0 and 1 share GPU 0',
    );
    const apart = await preflight(withGpus(512, 512), config, REAL, machine(512 * GIB));
    expect(apart.problems.map(({ code }) => code)).not.toContain('ERR_CUDA');
  });

  test('without shapes and data nothing can be said but that', async () => {
    const config = loadConfigWithSources(yaml('name: x\ndata: {path: nowhere/to/be/found}\n'), [], {});
    await expect(preflight(native(), config, REAL, machine(24 * GIB))).rejects.toMatchObject({
      code: 'ERR_FILE_OPEN',
      message: expect.stringContaining('nowhere/to/be/found'),
    });
  });
});

describe('savings', () => {
  test('are those of the changes: each alone, and all together', async () => {
    const run: Run = { config: released('sd3-medium', 'threads=8').config, workers: 1 };
    const host = native().host();
    const shapes = (await estimate(native(), run.config, 1, null)).shapes;
    const measure = ({ config, workers }: Run) =>
      totalBytes(estimateFor(native(), config, shapes, workers, null).machine);
    const { each, together } = findSavings(run, host, measure, GIB, false);
    const words = each.map((saving) => saving.words.join(' '));
    expect(words).toContain('--set threads_per_slot=8');
    expect(words).toContain('--set activation_checkpointing=block');
    expect(words).not.toContain('--nodes 1 --nproc-per-node 1');
    for (const { words, bytes } of each) {
      const sets = words.filter((word) => word !== '--set');
      const changed = released('sd3-medium', 'threads=8', ...sets).config;
      expect(measure(run) - measure({ config: changed, workers: 1 })).toBe(bytes);
      expect(together.bytes).toBeLessThan(measure(run) - bytes);
    }
    // What is said of all of them is of these very words.
    const sets = together.words.filter((word) => word !== '--set');
    const all = released('sd3-medium', 'threads=8', ...sets).config;
    expect(measure({ config: all, workers: 1 })).toBe(together.bytes);
  });

  test('of a run that is resumed are those that it does not refuse', () => {
    const { config } = released('sd3-medium', 'threads=8', 'device=cuda', 'batch={global: 64, micro: 1}');
    // Each change saves something.
    const measure = ({ config: { batch, activation_checkpointing: recomputed, ema } }: Run) =>
      (64 / batch.accumulate + (recomputed === 'block' ? 0 : 8) + (ema === null ? 0 : 4)) * GIB;
    const wordsOf = (isResumed: boolean) => {
      const { each, together } = findSavings({ config, workers: 1 }, native().host(), measure, 1, isResumed);
      return [...each.flatMap(({ words }) => words), ...together.words].join(' ');
    };
    expect(wordsOf(false)).toContain('batch.accumulate=64');
    expect(wordsOf(true)).not.toContain('batch.accumulate');
    expect(wordsOf(true)).toContain('activation_checkpointing=block');
    expect(wordsOf(true)).toContain('ema=null');
  });
});

describe('several problems', () => {
  test('are reported at once, each with its hint; the first gives the exit code', () => {
    const problems = [
      new OrchestratorError('ERR_OUT_OF_MEMORY', 'Too large', 'make it smaller'),
      new OrchestratorError('ERR_FILE_OPEN', 'Not there'),
    ];
    refuse([]);
    let thrown: unknown = null;
    try {
      refuse(problems);
    } catch (error) {
      thrown = error;
    }
    expect(reportError(thrown, false)).toEqual({
      text: 'error ERR_OUT_OF_MEMORY: Too large\nhint: make it smaller\nerror ERR_FILE_OPEN: Not there\n',
      exitCode: 1,
    });
  });
});
