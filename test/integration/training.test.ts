import { spawnSync } from 'node:child_process';
import {
  closeSync,
  cpSync,
  existsSync,
  fchmodSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { send } from '../support/endless-run.js';
import { eventFiles } from '../support/event-files.js';
import { temporaryFolder } from '../support/folders.js';
import { rows } from '../support/full.js';
import { allDead, ends, fingerprint, isAlive, Launched, launch, readLines } from '../support/launched.js';
import { PACED } from '../support/paced.js';
import { MAIN, orchestrator, orchestratorIn, withoutTimes } from '../support/program.js';
import { copyOfUndisturbed, undisturbed } from '../support/undisturbed.js';

const STEPS = 24;
const folder = temporaryFolder();

let reference: Record<string, unknown>;
let output: string;

beforeAll(async () => {
  const runDir = join(folder, 'one');
  ({ output } = await copyOfUndisturbed(runDir));
  reference = fingerprint(runDir, STEPS);
  expect(reference.losses).toHaveLength(STEPS);
  expect(reference.ledger).toHaveLength(STEPS);
  expect(reference.validation).toHaveLength(3);
});

test('sampled steps: norms of blocks add up to the norm, and logits are within the bound of QK-norm', () => {
  interface Stream {
    max_abs_logit: number;
    mean_entropy_nats: number;
    logit_bound: number;
  }
  const sampled = readLines(join(folder, 'one', 'metrics.jsonl')).filter(({ attention }) => attention);
  expect(sampled).toHaveLength(STEPS / 3);
  for (const { gradient_norm, gradient_norms, attention } of sampled) {
    const norms = Object.values(gradient_norms as Record<string, number>);
    expect(Math.hypot(...norms) / (gradient_norm as number)).toBeCloseTo(1, 12);
    const attentions = attention as Record<string, Record<'text' | 'image', Stream>>;
    expect(Object.entries(attentions).map(([name, { text }]) => [name, text !== undefined])).toEqual([
      ['block 0', true],
      ['block 0 attn2', false],
      ['block 1', false],
    ]);
    for (const { text, image } of Object.values(attentions)) {
      for (const stream of text === undefined ? [image] : [text, image]) {
        expect(stream.max_abs_logit).toBeGreaterThan(0);
        expect(stream.max_abs_logit).toBeLessThan(1.01 * stream.logit_bound);
        expect(stream.mean_entropy_nats).toBeGreaterThan(0);
      }
    }
    const { text, image } = attentions['block 0']!;
    expect(text.mean_entropy_nats).not.toBe(image.mean_entropy_nats);
  }
});

describe('the promise', () => {
  // Which worker sums what with whom is proven in test/unit/worker/collective.test.ts, for every number of workers.
  test.each(
    rows<[number, string]>(
      [
        [2, 'auto'],
        [3, 'grpc'],
      ],
      [
        [3, 'shared'],
        [4, 'shared'],
        [2, 'grpc'],
        [4, 'grpc'],
      ],
    ),
  )('%i workers, exchange: %s: the losses, the ledger and the weights of one', async (nodes, exchange) => {
    const runDir = join(folder, `of-${nodes}${exchange}`);
    await ends(launch(runDir, nodes, '--set', `exchange=${exchange}`), 0);
    expect(fingerprint(runDir, STEPS)).toEqual(reference);
  });

  test('two nodes with two workers each are four workers: the same', async () => {
    const runDir = join(folder, 'nodes');
    const { output } = await launch(runDir, 2, '--nproc-per-node', '2');
    expect(output).toContain('rank 3 (pid');
    expect(fingerprint(runDir, STEPS)).toEqual(reference);
  });

  test('another seed is another run', async () => {
    const runDir = join(folder, 'seed');
    const sets = ['seed=8', 'schedule.steps=4', 'validation.every=0'].flatMap((set) => ['--set', set]);
    await ends(launch(runDir, 1, ...sets), 0);
    const other = fingerprint(runDir, 4);
    for (const key of ['losses', 'ledger'])
      expect(other[key]).not.toEqual((reference[key] as unknown[]).slice(0, 4));
  });

  test('stopped by SIGINT, by SIGTERM and by kill -9 of all, and resumed with other numbers of workers', async () => {
    const runDir = join(folder, 'stopped');
    // Enough steps that a signal comes before the last one on a busy machine, too.
    const steps = 40;
    const long = ['--set', `schedule.steps=${steps}`];
    const start = (nodes: number, ...more: string[]) =>
      new Launched(runDir, PACED, '--nodes', String(nodes), ...long, ...more);

    const first = start(2);
    await first.steps(3);
    first.process.kill('SIGINT');
    await ends(first.outcome, 130);
    expect(first.output).toContain('interrupted: finishing the step and writing a checkpoint');
    expect(first.output).toMatch(/interrupted: stopped after step \d+; run the same command to resume\n/);

    const second = start(3, '--set', 'exchange=grpc');
    await second.says('resuming from');
    await second.steps(6);
    second.process.kill('SIGTERM');
    await ends(second.outcome, 143);

    const third = start(4);
    await third.steps(8);
    const victims = [third.process.pid as number, third.coordinator(), ...third.workers()];
    for (const pid of victims) send(pid, 'SIGKILL');
    await third.outcome;
    expect(await allDead(victims)).toBe(true);

    await ends(launch(runDir, 1, ...long), 0);
    expect(fingerprint(runDir, steps)).toEqual(fingerprint((await undisturbed(...long)).runDir, steps));
    // Each start has an event file of its own.
    expect(eventFiles(runDir)).toHaveLength(4);
    expect(
      readdirSync(runDir)
        .filter((name) => !name.startsWith('events.'))
        .sort(),
    ).toEqual([
      'checkpoints',
      // Those before and with `exchange: grpc`.
      'config.1.yaml',
      'config.2.yaml',
      'config.yaml',
      'journal.jsonl',
      'ledger.jsonl',
      'metrics.jsonl',
      'run.log',
    ]);
    // The generation rises with every start.
    const generations = readLines(join(runDir, 'journal.jsonl')).filter(({ workers }) => workers);
    expect(generations.map(({ generation }) => generation)).toEqual([1, 2, 3, 4]);
  });

  test.each(
    rows(
      [[1, 2]],
      [
        [3, 1],
        [2, 2],
        [1, 3],
      ],
    ),
  )(
    'a checkpoint of another run folder, gone on from in a new one by %i workers with %i threads for a slot: the same',
    async (nodes, threads) => {
      const runDir = join(folder, `branch-${nodes}-${threads}`);
      const checkpoint = join(folder, 'of-2auto', 'checkpoints', 'step-00000021');
      const sets = [`threads=${threads}`, `threads_per_slot=${threads}`].flatMap((set) => ['--set', set]);
      await ends(launch(runDir, nodes, '--resume', checkpoint, ...sets), 0);
      const branch = fingerprint(runDir, STEPS);
      expect(branch.losses).toEqual((reference.losses as unknown[]).slice(21));
      for (const file of ['model', 'ema', 'optimizer']) expect(branch[file]).toBe(reference[file]);
    },
  );

  test.each([STEPS, STEPS - 4])('a run that is done has nothing to do up to step %i', async (steps) => {
    const runDir = join(folder, 'one');
    const before = readFileSync(join(runDir, 'run.log'), 'utf8');
    expect(await launch(runDir, 2, '--set', `schedule.steps=${steps}`)).toMatchObject({
      code: 0,
      output: expect.stringMatching(
        `^(warn .*\n)*already at step ${STEPS} of ${steps}: nothing to do; raise schedule\\.steps to go on\n$`,
      ),
    });
    expect(fingerprint(runDir, STEPS)).toEqual(reference);
    expect(readFileSync(join(runDir, 'run.log'), 'utf8')).toBe(before);
  });
});

test('says once and early how long it will take, a resumed run how long the rest will, and both how long it took', async () => {
  const forecasts = (text: string) => text.match(/^.* will take about .*$/gm);
  expect(forecasts(output)).toEqual([
    expect.stringMatching(/^Training will take about .+: 24 steps of [\d.]+ m?s and 3 validations$/),
  ]);
  expect(output).toMatch(/^step 5\/24 .*\nTraining will take/m);
  expect(output).toMatch(/^All 24 steps are done, in .+ s$/m);
  const checkpoint = join(folder, 'one', 'checkpoints', 'step-00000021');
  const more = ['--resume', checkpoint, '--set', 'schedule.steps=60'];
  const { output: resumed } = await ends(launch(join(folder, 'rest'), 1, ...more), 0);
  expect(forecasts(resumed)).toEqual([
    expect.stringMatching(
      /^The rest of the training will take about .+: 39 steps of [\d.]+ m?s and 6 validations$/,
    ),
  ]);
});

test('the time of a validation is its own, and not that of the step after it', async () => {
  const runDir = join(folder, 'validated');
  const sets = ['schedule.steps=2', 'schedule.warmup=0', 'validation.every=1', 'validation.bins=50'];
  const { output } = await ends(launch(runDir, 2, ...sets.flatMap((set) => ['--set', set])), 0);
  const lines = readLines(join(runDir, 'metrics.jsonl')) as {
    type: string;
    step: number;
    seconds: number;
    unix_seconds: number;
  }[];
  const of = (type: string, step: number) => lines.find((line) => line.type === type && line.step === step)!;
  const between = of('step', 2).unix_seconds - of('step', 1).unix_seconds;
  // Together they are the time between; half of the validation, because records are written a little later.
  expect(of('step', 2).seconds + of('validation', 1).seconds / 2).toBeLessThan(between);
  expect(output).toMatch(/^validation at step 1 \| master .* \| [\d.]+ m?s$/m);
});

describe('deaths', () => {
  const long = [
    '--set',
    'schedule.steps=100000',
    '--set',
    'validation.every=0',
    '--set',
    'checkpoint.every=0',
  ];
  const start = (name: string, ...more: string[]) =>
    new Launched(join(folder, name), PACED, '--nodes', '2', ...long, ...more);

  test('a killed coordinator that is not started again ends everything', async () => {
    const run = start('headless', '--max-restarts', '0');
    await run.says('step 5/');
    const pids = [run.coordinator(), ...run.workers()];
    process.kill(pids[0] as number, 'SIGKILL');
    const { code, output } = await run.outcome;
    expect(code).toBe(1);
    expect(output).toMatch(
      /^error ERR_COORDINATOR_LOST: The coordinator \(pid \d+\) was killed by SIGKILL \(out of memory\?\)\nhint: The same command resumes from (the first step|the checkpoint of step \d+) \(/m,
    );
    expect(pids.filter(isAlive)).toEqual([]);
  });

  test('without its launcher the run saves its state and ends', async () => {
    const run = start('alone');
    await run.says('step 5/');
    const pids = [run.coordinator(), ...run.workers()];
    run.process.kill('SIGKILL');
    expect(await allDead(pids)).toBe(true);
    expect(readdirSync(join(run.runDir, 'checkpoints'))).toHaveLength(1);
  });
});

test('a record that cannot be written ends the run, and the coordinator says what to do', () => {
  const runDir = join(folder, 'limited');
  const sets = ['checkpoint.every=1000', 'validation.every=0', 'schedule.steps=200', 'schedule.warmup=1'];
  const parameters = ['test/integration/training.yaml', '--run-dir', runDir];
  const { status, stdout } = spawnSync(
    'bash',
    [
      '-c',
      'ulimit -f 12; exec "$@"',
      'bash',
      process.execPath,
      MAIN,
      'launch',
      ...parameters,
      ...sets.flatMap((set) => ['--set', set]),
    ],
    { encoding: 'utf8' },
  );
  expect(status).toBe(1);
  const refused = `error ERR_FILE_WRITE: Cannot write to ${join(runDir, 'metrics.jsonl')}: .* \\(EFBIG\\)`;
  const hint =
    'hint: Raise the limit \\(ulimit -f unlimited\\)\\. There is no checkpoint yet: the same command starts from the beginning';
  expect(withoutTimes(stdout)).toMatch(new RegExp(`^${refused}\n${hint}$`, 'm'));
});

describe('refusals', () => {
  test('a worker without a credential of the run, and a second run in the same folder', async () => {
    const endless = ['--nodes', '1', '--set', 'schedule.steps=100000'];
    const run = new Launched(join(folder, 'token'), PACED, ...endless, '--listen', '127.0.0.1:0');
    await run.says('step 2/');
    const invited = orchestrator('invite', run.runDir).stdout;
    const credential = join(folder, 'credential');
    const file = openSync(credential, 'w');
    fchmodSync(file, 0o644);
    const written = spawnSync(process.execPath, [MAIN, 'invite', run.runDir], {
      stdio: ['ignore', file, 'pipe'],
      encoding: 'utf8',
    });
    closeSync(file);
    expect(written.stderr).toMatch(
      /^warn others can read the credential, which is a secret: .*credential has the mode 0644; `chmod 600`/,
    );
    const worker = (input: string) => orchestratorIn({ input }, 'worker', '--credential', '-');
    // The token has the same length.
    expect(worker(invited.replace(/\.[^.]+\./, `.${'A'.repeat(43)}.`))).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(
        /^error ERR_TOKEN: The coordinator at 127\.0\.0\.1:\d+ refused this worker: this run has issued no such token/,
      ),
    });
    await run.says('no such token');
    expect(worker('guess')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^error ERR_TOKEN: standard input holds no credential/),
    });
    const alone = new Launched(join(folder, 'uninvited'), PACED, ...endless);
    await alone.says('step 2/');
    expect(orchestrator('invite', alone.runDir)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('No worker can be invited: the run is for this machine alone'),
    });
    expect(await launch(alone.runDir, 1)).toMatchObject({
      code: 1,
      output: expect.stringContaining('ERR_RUN_LOCKED'),
    });
    // Secrets are in no place where others look.
    const [, token] = invited.split('.');
    for (const pid of [run.process.pid!, run.coordinator(), ...run.workers()]) {
      for (const file of ['cmdline', 'environ']) {
        expect(readFileSync(`/proc/${pid}/${file}`, 'latin1')).not.toContain(token);
        expect(readFileSync(`/proc/${pid}/${file}`, 'latin1')).not.toContain('orch1.');
      }
    }
    const secrets = join(run.runDir, 'secrets');
    expect(statSync(secrets).mode & 0o777).toBe(0o700);
    for (const name of readdirSync(secrets)) {
      expect(statSync(join(secrets, name)).mode & 0o777, name).toBe(0o600);
      expect(readFileSync(join(secrets, name), 'latin1')).not.toContain(token);
    }
    for (const one of [run, alone]) one.process.kill('SIGTERM');
    await ends(run.outcome, 143);
    await ends(alone.outcome, 143);
    expect(existsSync(join(alone.runDir, 'secrets'))).toBe(false);
    expect(readFileSync(join(run.runDir, 'run.log'), 'utf8')).not.toMatch(/orch1\.|PRIVATE KEY/);
    // The port stays: a worker that was cut off looks for the run's next start there.
    expect(readdirSync(secrets).sort()).toEqual(['authority.key', 'authority.pem', 'port', 'tokens.jsonl']);
  });

  test('a new run where checkpoints lie', async () => {
    const { code, output } = await launch(join(folder, 'one'), 1, '--resume', 'never');
    expect(code).toBe(1);
    expect(output).toMatch(/ERR_RUN_DIR: .* holds checkpoints up to step 24/);
    expect(fingerprint(join(folder, 'one'), STEPS)).toEqual(reference);
  });

  test('a checkpoint of another model', async () => {
    const { code, output } = await launch(
      join(folder, 'other'),
      2,
      ...['--resume', join(folder, 'one'), '--set', 'model.depth=3', '--set', 'schedule.steps=30'],
    );
    expect(code).toBe(1);
    expect(output).toMatch(/ERR_CHECKPOINT_MISMATCH: model\.depth was 2 at step \d+ and is 3 now/);
  });

  test('a gradient that is not finite', async () => {
    const { code, output } = await launch(
      join(folder, 'nan'),
      2,
      ...['--set', 'optimizer.lr=1.0e+30', '--set', 'schedule.warmup=0'],
    );
    expect(code).toBe(1);
    expect(output).toMatch(
      /ERR_NON_FINITE: Step 2 was refused: NaN or infinity in the gradient of rank 0 \(pid \d+ on .*\), slot 0, rows [\d, ]+(and \d+ more)?, first in \w+/,
    );
    expect(readLines(join(folder, 'nan', 'ledger.jsonl'))).toHaveLength(1);
  });

  test('a data file that is truncated under the run', async () => {
    const data = join(folder, 'data');
    cpSync('test/fixtures/huggingface/fixed', data, { recursive: true });
    const run = new Launched(
      join(folder, 'truncated'),
      2,
      ...['--set', 'schedule.steps=100000', '--set', `data.path=${data}`],
    );
    await run.says('step 2/');
    const file = join(data, readdirSync(data).find((name) => name.endsWith('.arrow')) as string);
    truncateSync(file);
    const { code, output } = await run.outcome;
    expect(code, output).toBe(1);
    expect(output).toContain(`${file} was truncated, or could not be read, while it was in use`);
    expect(output).toContain('error ERR_FILE_TRUNCATED: rank ');
  });

  test('more workers than slots, a folder that is a file, a log that is a folder', async () => {
    expect(await launch(join(folder, 'many'), 6)).toMatchObject({
      code: 2,
      output: expect.stringContaining('6 workers cannot share 5 slots (batch.global 20 / batch.micro 4)'),
    });

    writeFileSync(join(folder, 'file'), '');
    expect(await launch(join(folder, 'file', 'run'), 1)).toMatchObject({
      code: 1,
      output: expect.stringContaining('ERR_RUN_DIR'),
    });

    const log = join(folder, 'logless', 'run.log');
    mkdirSync(log, { recursive: true });
    expect(await launch(join(folder, 'logless'), 1, '--set', 'telemetry.metrics_port=0')).toMatchObject({
      code: 1,
      output: `error ERR_FILE_WRITE: Cannot write ${log}: it is a folder (EISDIR)\n`,
    });
    expect(await launch(join(folder, 'file'), 1)).toMatchObject({
      code: 1,
      output: expect.stringContaining(
        `ERR_RUN_DIR: Cannot write in the run folder ${join(folder, 'file')}: it is a file, not a folder`,
      ),
    });
    expect(await launch('/proc/nope/run', 1)).toMatchObject({
      code: 1,
      output: expect.stringContaining('ERR_RUN_DIR: Cannot write in the run folder /proc/nope/run: '),
    });
  });
});
