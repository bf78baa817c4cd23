/**
 * What earlier versions wrote: a config, a data set, a run folder and an export of each. This version reads
 * them, or refuses in a sentence that says what to do. See test/fixtures/runs/README.md.
 */
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { native } from '../../src/native/load.js';
import { temporaryFolder } from '../support/folders.js';
import { readLines } from '../support/launched.js';
import { orchestratorIn, succeeds } from '../support/program.js';

const RUNS = 'test/fixtures/runs';
const versions = readdirSync(RUNS, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

describe.each(versions)('%s', (version) => {
  const folder = temporaryFolder();
  beforeAll(() => cpSync(join(RUNS, version), folder, { recursive: true }));

  // This machine may lack the instruction set with which they were written.
  const env = { ORCHESTRATOR_ISA: native().host().isa };

  function run(...args: string[]): string {
    const done = orchestratorIn({ cwd: folder, env }, ...args);
    expect(done.stderr).not.toMatch(/^error/m);
    return succeeds(done);
  }

  /** Versions before 2026-11-26 had the density of t in a key of its own; the refusal says what to write. */
  function writeAsTold(path: string): void {
    const file = join(folder, path);
    const config = parse(readFileSync(file, 'utf8'));
    if (config.objective.density === undefined) return;
    const { status, stderr } = orchestratorIn({ cwd: folder }, 'config', 'show', path);
    expect(status).toBe(2);
    const [, line] = /objective\.density: .* write instead of both: (formulation: ".*")$/m.exec(stderr)!;
    config.objective = { ...parse(line!), shift: config.objective.shift };
    writeFileSync(file, stringify(config));
  }

  test('its config, and the one that its run kept, after the line that it is told to write', () => {
    for (const path of ['config.yaml', 'run/config.yaml']) {
      writeAsTold(path);
      const shown = run('config', 'show', path);
      expect(shown).toMatch(/^name +written-before/m);
      expect(shown).toMatch(/^schedule\.steps +4 /m);
    }
  });

  test('its data set', () => {
    expect(run('dataset', 'verify', 'data')).toContain('12 rows in 1 file');
    expect(run('dataset', 'inspect', 'data')).toContain('latent');
  });

  test('its export, which is that of its checkpoint, bit by bit', () => {
    expect(run('model', 'inspect', 'export')).toMatch(/depth 1, hidden 64.*\n.*155,712/);
    run(
      'model',
      'export',
      'run',
      '--weights',
      'ema',
      '--format',
      'diffusers',
      '--dtype',
      'BF16',
      '--out',
      'again',
    );
    const [before, now] = ['export', 'again'].map((name) => {
      const file = readFileSync(join(folder, name, 'diffusion_pytorch_model.safetensors'));
      const begin = 8 + Number(file.readBigUInt64LE());
      // Newer exports have more metadata.
      const { __metadata__, ...tensors } = JSON.parse(file.toString('utf8', 8, begin));
      return { tensors, data: file.subarray(begin) };
    });
    expect(now!.tensors).toEqual(before!.tensors);
    expect(now!.data.equals(before!.data)).toBe(true);
  });

  test('its run: the checkpoint verifies, and training is resumed from it', () => {
    expect(run('checkpoint', 'verify', 'run')).toContain('step-00000004  step 4');
    writeAsTold('config.yaml');
    const resume = ['--run-dir', 'run', '--resume', 'auto', '--set', 'schedule.steps=6'];
    const output = run('launch', 'config.yaml', '--nodes', '2', ...resume);
    expect(output).toMatch(/^steps 5 to 6/m);
    expect(run('checkpoint', 'verify', 'run')).toContain('step-00000006  step 6');
    expect(readFileSync(join(folder, 'run/config.yaml'), 'utf8')).toMatch(
      /^ema:\n( {2}.*\n)* {2}warmup: false$/m,
    );
    const steps = readLines(join(folder, 'run/metrics.jsonl'))
      .filter(({ type }) => type === 'step')
      .map(({ step }) => step);
    expect(steps).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test('its run goes on with other data, whose identity is that of today, and with the former ones', () => {
    const [launch, steps] = [
      ['launch', 'config.yaml', '--run-dir', 'run', '--set'],
      (last: number) => `schedule.steps=${last}`,
    ];
    run('dataset', 'shapes', '--out', 'more', '--count', '20', '--seed', '3');
    const more = ['--set', 'data.path=more'];
    expect(run(...launch, steps(8), ...more, '--allow-data-change')).toMatch(
      /the data set has changed: it had 12 rows and has 20\. A new segment .* begins at step 7/,
    );
    run(...launch, steps(9), ...more);
    const plan = run('checkpoint', 'inspect', 'run');
    expect(plan).toMatch(
      /^plan +version 2, .*\nsegment 1 +steps 1 to 6, 12 rows.*\nsegment 2 +steps 7 to 9, 20 rows/m,
    );
    expect(run(...launch, steps(10), '--allow-data-change', '--dry-run')).toContain(
      'the data set has changed: it is that of step 1 again, with 12 rows',
    );
  });
});
