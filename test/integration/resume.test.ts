/**
 * Runs that go on after damage, from an earlier checkpoint, from another run's, and after a disk that was
 * full.
 */
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test, vi } from 'vitest';
import { loadConfigWithSources } from '../../src/config/load.js';
import { preflight } from '../../src/launch/preflight.js';
import { native } from '../../src/native/load.js';
import { temporaryFolder } from '../support/folders.js';
import { ends, fingerprint, launch, readLines, TRAINING } from '../support/launched.js';
import { unmountable } from '../support/mountable.js';
import { because } from '../support/needs.js';
import { PLAINEST_ISA } from '../support/plainest-isa.js';
import { orchestrator } from '../support/program.js';
import { undisturbed } from '../support/undisturbed.js';

const STEPS = 24;
const folder = temporaryFolder();
/** Is only read. */
let one: string;
let reference: Record<string, unknown>;
beforeAll(async () => {
  ({ runDir: one } = await undisturbed());
  reference = fingerprint(one, STEPS);
});

const checkpoints = (runDir: string) => readdirSync(join(runDir, 'checkpoints')).sort();

test('a flipped bit in the latest checkpoint: told, and gone on from the one before, to the same end', async () => {
  const runDir = join(folder, 'flipped');
  execFileSync('cp', ['-r', one, runDir]);
  expect(checkpoints(runDir)).toEqual(['step-00000021', 'step-00000024']);
  const file = join(runDir, 'checkpoints', 'step-00000024', 'optimizer.safetensors');
  const bytes = readFileSync(file);
  bytes[bytes.length - 5]! ^= 32;
  writeFileSync(file, bytes);
  expect(orchestrator('checkpoint', 'verify', runDir).status).toBe(1);
  const given = await launch(runDir, 2, '--resume', join(runDir, 'checkpoints', 'step-00000024'));
  expect(given.code).toBe(1);
  expect(given.output).toMatch(
    /^error ERR_CHECKPOINT_DAMAGED: .*optimizer\.safetensors: has .*\nhint: Take another checkpoint: .*`--resume auto`/m,
  );
  const { code, output } = await launch(runDir, 2);
  expect(code).toBe(0);
  expect(output).toMatch(
    /^warn damaged checkpoint, not used: .*step-00000024\/optimizer\.safetensors: has the SHA-256.*; .*step-00000021 is used instead$/m,
  );
  expect(output).toMatch(/resuming from .*step-00000021 \(step 21\)/);
  expect(fingerprint(runDir, STEPS)).toEqual(reference);
  expect(checkpoints(runDir)).toEqual([
    'step-00000021',
    'step-00000024',
    expect.stringMatching(/^superseded-step-00000024-/),
  ]);
});

test('an earlier checkpoint by its path: the later ones are put aside, and the end is the same', async () => {
  const runDir = join(folder, 'earlier');
  execFileSync('cp', ['-r', one, runDir]);
  const { code, output } = await launch(
    runDir,
    3,
    ...['--resume', join(runDir, 'checkpoints', 'step-00000021')],
  );
  expect(code).toBe(0);
  expect(output).toMatch(/later checkpoint renamed: .*superseded-step-00000024/);
  expect(fingerprint(runDir, STEPS)).toEqual(reference);
});

const plain = native().host().isa === PLAINEST_ISA ? 'there is no other instruction set here' : null;
test.skipIf(plain)(because('on another instruction set: told, and kept from then on', plain), async () => {
  const runDir = join(folder, 'isa');
  execFileSync('cp', ['-r', one, runDir]);
  vi.stubEnv('ORCHESTRATOR_ISA', PLAINEST_ISA);
  try {
    const more = ['--set', 'schedule.steps=25', '--set', 'precision.compute=fp32'];
    const { code, output } = await launch(runDir, 2, ...more);
    expect(code).toBe(0);
    const warnings = output.match(/^warn \[worker 0\] the checkpoint was written with other arithmetic .*/gm);
    const told = new RegExp(`\\(isa \\w+ there, ${PLAINEST_ISA} here.*not bit for bit`);
    expect(warnings).toEqual([expect.stringMatching(told)]);
    // What workers say stands in the log, too.
    expect(readFileSync(join(runDir, 'run.log'), 'utf8')).toContain(
      JSON.stringify(warnings?.[0]?.replace(/^warn /, '')),
    );
    vi.stubEnv('ORCHESTRATOR_ISA', '');
    const again = await ends(launch(runDir, 2, '--set', 'schedule.steps=26', ...more.slice(2)), 0);
    expect(again.output).toMatch(
      new RegExp(`^warn all workers compute with ${PLAINEST_ISA}, as up to the checkpoint`, 'm'),
    );
    expect(again.output).not.toContain('other arithmetic');
    const generations = readLines(join(runDir, 'journal.jsonl')).flatMap(
      ({ arithmetic }) => arithmetic ?? [],
    );
    expect(generations.slice(-2)).toEqual(Array(2).fill(expect.stringContaining(`isa ${PLAINEST_ISA},`)));
  } finally {
    vi.unstubAllEnvs(); // the tests may run under an instruction set of the environment
  }
});

test('on a machine that lacks the instruction set: refused, with the way to go on', async () => {
  vi.stubEnv('ORCHESTRATOR_ISA', '');
  try {
    const addon = { ...native(), instructionSets: () => ['other'] };
    const loaded = loadConfigWithSources(TRAINING, ['schedule.steps=25'], {});
    const options = { workers: 1, runDir: one, resume: 'auto', memory: null, dry: false };
    const { problems } = await preflight(addon, loaded, options);
    expect(problems).toMatchObject([
      { code: 'ERR_ISA', hint: expect.stringContaining('ORCHESTRATOR_ISA=other ') },
    ]);
  } finally {
    vi.unstubAllEnvs();
  }
});

test('damaged and missing lines of the ledger are told, and what follows them is kept', async () => {
  const runDir = join(folder, 'lines');
  execFileSync('cp', ['-r', one, runDir]);
  const ledger = join(runDir, 'ledger.jsonl');
  const lines = readFileSync(ledger, 'utf8').split('\n');
  lines[4] = 'x'.repeat(lines[4]!.length);
  writeFileSync(ledger, lines.join('\n'));
  const { output } = await ends(launch(runDir, 1, '--set', 'schedule.steps=26'), 0);
  expect(output).toMatch(
    /^warn .*ledger\.jsonl: not a JSON object in line 5; what was recorded there is lost/m,
  );
  const after = readFileSync(ledger, 'utf8').split('\n');
  expect(after.slice(0, STEPS)).toEqual(lines.slice(0, STEPS));
  expect(after).toHaveLength(27);
  writeFileSync(ledger, `${lines.slice(0, 20).join('\n')}\n`);
  const again = await ends(launch(runDir, 1, '--set', 'schedule.steps=28'), 0);
  expect(again.output).toMatch(/^warn .*ledger\.jsonl ends at step 20, before the checkpoint: .* up to 26/m);
});

test('a symbolic link in the place of a file of the run is refused, and what it points to is untouched', async () => {
  const [runDir, victim] = [join(folder, 'links'), join(folder, 'victim')];
  mkdirSync(runDir);
  writeFileSync(victim, 'mine\n');
  symlinkSync(victim, join(runDir, 'metrics.jsonl'));
  const { output } = await ends(launch(runDir, 1), 1);
  expect(output).toMatch(
    /^error ERR_FILE_\w+: Cannot open .*metrics\.jsonl: it is a symbolic link \(ELOOP\)/m,
  );
  expect(readFileSync(victim, 'utf8')).toBe('mine\n');
});

test("another run's checkpoint begins a run of its own, and only where there is none", async () => {
  const from = join(one, 'checkpoints', 'step-00000021');
  const runDir = join(folder, 'fork');
  // Lines of a run that ended in this folder before its first checkpoint are not of the new run.
  mkdirSync(runDir);
  writeFileSync(join(runDir, 'ledger.jsonl'), '{"step":1,"slots":[]}\n{"step":2,"slots":[]}\n');
  writeFileSync(join(runDir, 'metrics.jsonl'), '{"type":"step","step":1,"loss":7}\n');
  await ends(launch(runDir, 2, '--resume', from), 0);
  const fork = fingerprint(runDir, STEPS);
  for (const part of ['model', 'ema', 'optimizer']) expect(fork[part]).toBe(reference[part]);
  for (const lines of ['losses', 'ledger']) {
    expect(fork[lines]).toEqual((reference[lines] as unknown[]).slice(21));
  }
  const again = await launch(runDir, 2, '--resume', from);
  expect(again).toMatchObject({ code: 1, output: expect.stringContaining('ERR_RUN_DIR') });
  expect(fingerprint(runDir, STEPS)).toEqual(fork);
});

test.skipIf(unmountable)(
  because('a disk that fills up: a clear end, nothing lost, and the same end with space', unmountable),
  async () => {
    const runDir = join(folder, 'full');
    execFileSync('mkdir', [runDir]);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', runDir]);
    try {
      const free = () => statfsSync(runDir).bavail * statfsSync(runDir).bsize;
      // Room for one checkpoint of about 20 MB, and not for two.
      writeFileSync(join(runDir, 'filler'), new Uint8Array(free() - 30e6));
      const { output } = await ends(launch(runDir, 2), 1);
      expect(output).toMatch(
        /ERR_CHECKPOINT_WRITE: .*step 24 was not written: .*needs \d.* MiB are free \(ENOSPC\)/,
      );
      expect(checkpoints(runDir)).toEqual(['step-00000021']);
      rmSync(join(runDir, 'filler'));
      await ends(launch(runDir, 1), 0);
      expect(fingerprint(runDir, STEPS)).toEqual(reference);
    } finally {
      execFileSync('umount', ['-l', runDir]);
    }
  },
);
