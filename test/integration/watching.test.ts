/** Commands that say what runs do and did: status, logs, runs, compare, completion. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../support/folders.js';
import { ends, Launched, launch } from '../support/launched.js';
import { PACED } from '../support/paced.js';
import { MAIN, orchestrator, orchestratorIn, succeeds } from '../support/program.js';
import { copyOfUndisturbed } from '../support/undisturbed.js';

const folder = temporaryFolder();
const runs = join(folder, 'runs');
const set = (...keys: string[]) => keys.flatMap((key) => ['--set', key]);
const json = (...parameters: string[]) => JSON.parse(succeeds(orchestrator(...parameters, '--json')));

test('of a run that trains: its state from its coordinator, by a socket that only the user can open', async () => {
  const runDir = join(folder, 'long');
  const run = new Launched(
    runDir,
    PACED,
    ...set('schedule.steps=1000000', 'checkpoint.every=0', 'validation.every=5'),
  );
  await run.says('step 12/');
  const status = json('status', runDir);
  expect(status).toMatchObject({
    live: true,
    phase: 'RUNNING',
    steps: 1_000_000,
    run_dir: runDir,
    workers: 1,
  });
  expect(status.step).toBeGreaterThanOrEqual(12);
  const [worker] = run.workers();
  const member = { rank: 0, id: 'local-0', host: hostname(), pid: worker, state: 'training', device: '' };
  expect(status.members).toEqual([member]);
  for (const known of [
    'loss',
    'mean_loss',
    'samples_per_second',
    'remaining_seconds',
    'epoch',
    'max_abs_logit',
  ])
    expect(status[known], known).toBeGreaterThan(0);
  expect(status.validation).toMatchObject({ weights: 'ema', last: { loss: expect.any(Number) } });
  const socket = statSync(join(runDir, 'status.sock'));
  expect([socket.isSocket(), socket.mode & 0o777]).toEqual([true, 0o600]);
  const page = succeeds(orchestrator('status', runDir));
  expect(page).toMatch(/RUNNING.* step \d+\/1000000/);
  expect(page).toMatch(new RegExp(`^0 +training +\\S+ +${worker} +local-0$`, 'm'));
  const followed = promisify(execFile)(process.execPath, [MAIN, 'logs', runDir, '--follow']);
  const watching = spawn(process.execPath, [MAIN, 'status', runDir, '--watch']);
  const watched = text(watching.stdout);
  await once(watching.stdout, 'data');
  run.process.kill('SIGTERM');
  await ends(run.outcome, 143);
  // It ends with the run, with all that was written.
  expect((await followed).stdout).toMatch(/\d\d:\d\d:\d\d step 12\/1000000 \|[\s\S]*stopped after step \d+/);
  // Pages of the run, and a last one of its end.
  expect(await watched).toMatch(/ RUNNING[\s\S]* STOPPED [\s\S]*\nfrom the files of .*\n$/);
  expect(existsSync(join(runDir, 'status.sock'))).toBe(false);
  expect(json('status', runDir)).toMatchObject({ live: false, phase: 'STOPPED', remaining_seconds: null });
});

describe('of runs that are over', () => {
  beforeAll(async () => {
    await copyOfUndisturbed(join(runs, 'one'));
    await ends(launch(join(runs, 'two'), 1, ...set('optimizer.lr=0.01', 'schedule.steps=12')), 0);
    cpSync('test/fixtures/runs/f61e27f/run', join(runs, 'before'), { recursive: true });
  });

  test('runs: a table, those of earlier versions too', () => {
    const found = json('runs', runs) as Record<string, unknown>[];
    expect(found).toHaveLength(3);
    const [latest] = found;
    expect(latest).toMatchObject({ run_dir: join(runs, 'two'), phase: 'DONE', step: 12, problem: null });
    const before = found.find(({ run_dir: dir }) => dir === join(runs, 'before'));
    expect(before).toMatchObject({ problem: null, validation: { best: { loss: expect.any(Number) } } });
    const table = succeeds(orchestratorIn({ cwd: folder }, 'runs'));
    expect(table).toMatch(/^run +state +step +last +mean loss +best validation/);
    expect(table).toMatch(/^runs\/one +DONE +24\/24 /m);
    // A configuration that is damaged does not keep the others from being shown.
    const mixed = join(folder, 'mixed');
    cpSync(join(runs, 'two'), join(mixed, 'two'), { recursive: true });
    for (const [name, text] of [
      ['damaged', 'name: ['],
      ['empty', ''],
    ] as const) {
      mkdirSync(join(mixed, name));
      writeFileSync(join(mixed, name, 'config.yaml'), text);
    }
    const page = succeeds(orchestratorIn({ cwd: folder }, 'runs', 'mixed'));
    for (const name of ['damaged', 'empty'])
      expect(page).toMatch(new RegExp(`^mixed/${name} +UNREADABLE `, 'm'));
    expect(page).toMatch(/^mixed\/two +DONE +12\/12 /m);
    expect(page).toMatch(/^ERR_CONFIG: .*damaged\/config\.yaml is no YAML: /m);
    // A file or a pipe has room for all columns, however long the paths are.
    const deep = join(folder, 'deep'.repeat(40));
    cpSync(join(runs, 'two'), join(deep, 'two'), { recursive: true });
    expect(succeeds(orchestrator('runs', deep))).toContain(`\n${join(deep, 'two')}   DONE  12/12 `);
  });

  test('compare: first what differs in the configuration, then numbers, and a picture', () => {
    const picture = join(folder, 'compare.png');
    const page = succeeds(orchestratorIn({ cwd: folder }, 'compare', 'one', 'two', '--plot', picture));
    expect(page).toMatch(
      /^configuration +one +two\noptimizer\.lr +0\.001 +0\.01\nschedule\.steps +24 +12\n\nnumbers/,
    );
    expect(page).toMatch(/^loss at step 12 +[\d.]+ +[\d.]+$/m);
    expect(readFileSync(picture).subarray(1, 4).toString()).toBe('PNG');
    expect(page).toMatch(/^validation up to step 12 +[\d.]+ +[\d.]+$/m);
    // Folders of one name are told apart.
    cpSync(join(runs, 'two'), join(folder, 'other/two'), { recursive: true });
    const same = succeeds(orchestratorIn({ cwd: folder }, 'compare', 'two', 'other/two'));
    expect(same).toMatch(/^configuration +runs\/two +other\/two\nno key differs/);
    const { differences, runs: both } = json('compare', join(runs, 'one'), join(runs, 'two'));
    expect(differences).toEqual({ 'optimizer.lr': [0.001, 0.01], 'schedule.steps': [24, 12] });
    expect(both).toHaveLength(2);
  });

  test('logs: for people and as it is written', () => {
    const page = succeeds(orchestrator('logs', join(runs, 'one')));
    expect(page).toMatch(/^step 24\/24 \| loss [\d.]+ \| /m);
    expect(page).toMatch(/^All 24 steps are done, in /m);
    const lines = succeeds(orchestrator('logs', join(runs, 'one'), '--json'));
    expect(lines).toBe(readFileSync(join(runs, 'one/run.log'), 'utf8'));
    const whole = lines.trimEnd().split('\n');
    const last = (count: number) =>
      succeeds(orchestrator('logs', join(runs, 'one'), '--json', '-n', `${count}`));
    expect(last(2)).toBe(`${whole.slice(-2).join('\n')}\n`);
    expect(last(0)).toBe('');
    expect(last(whole.length + 1)).toBe(lines);
    const old = succeeds(orchestrator('logs', join(runs, 'before')));
    expect(old).toMatch(/the run is DONE/);
  });

  test('status: in colours where FORCE_COLOR asks for them; --watch of a run that is over ends', () => {
    const coloured = orchestratorIn({ env: { FORCE_COLOR: '1' } }, 'status', join(runs, 'one'));
    expect(succeeds(coloured)).toContain('\u001b[');
    expect(succeeds(orchestrator('status', '-w', join(runs, 'one')))).toMatch(/ DONE .* step 24\/24\n/);
    expect(orchestrator('status', '-w', '--json', join(runs, 'one'))).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('ERR_USAGE: --watch does not go with --json'),
    });
  });

  test('status: files are read, and it is said, where the coordinator is of another version', async () => {
    const runDir = join(folder, 'other-version');
    cpSync(join(runs, 'one'), runDir, { recursive: true });
    const other = createServer((socket) => socket.end('{"step":3}\n'));
    await once(other.listen(join(runDir, 'status.sock')), 'listening');
    try {
      const asked = await promisify(execFile)(process.execPath, [MAIN, 'status', runDir]);
      expect(asked.stdout).toContain(
        `from the files of ${runDir}, because its coordinator is of another version\n`,
      );
    } finally {
      other.close();
    }
  });

  test('a folder that is no run is refused', () => {
    for (const command of ['status', 'logs'])
      expect(orchestrator(command, folder)).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('ERR_RUN_DIR'),
      });
    expect(orchestrator('compare', join(runs, 'one'))).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^error ERR_USAGE: expected two or more runs, received .*one alone$/m),
    });
  });
});

test.each(['bash', 'zsh', 'fish'])('completion %s names every command', (shell) => {
  const script = succeeds(orchestrator('completion', shell));
  for (const name of ['launch', 'status', 'inspect', 'dry-run', 'karras']) expect(script).toContain(name);
  if (shell !== 'bash') return;
  for (const name of ['twin runs', '$(touch carried-out)']) mkdirSync(join(runs, name), { recursive: true });
  mkdirSync(join(runs, 'two'), { recursive: true });
  const complete = (...words: string[]) =>
    execFileSync(
      'bash',
      [
        '-c',
        `${script}\nCOMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')})
COMP_CWORD=${words.length - 1}; _orchestrator; printf '%s\\n' "\${COMPREPLY[@]}"`,
      ],
      { cwd: folder, encoding: 'utf8' },
    )
      .trim()
      .split('\n');
  expect(complete('orchestrator', 'sta')).toEqual(['status']);
  expect(complete('orchestrator', 'checkpoint', 'ins')).toEqual(['inspect']);
  // No files, of which there are some, where a command or one of some values is due.
  expect(complete('orchestrator', 'completion', '')).toEqual(['bash', 'zsh', 'fish', '-h', '--help']);
  expect(complete('orchestrator', 'checkpoint', '')).toEqual(['inspect', 'verify', '-h', '--help']);
  expect(complete('orchestrator', 'launch', 'x.yaml', '--dry')).toEqual(['--dry-run']);
  expect(complete('orchestrator', 'sample', '--solver', 'h')).toEqual(['heun']);
  expect(complete('orchestrator', 'status', 'tw').sort()).toEqual(['twin runs', 'two']);
  for (const command of ['checkpoint', 'model'])
    expect(complete('orchestrator', command, 'inspect', 'tw')).toContain('two');
  // Its argument is the folder around runs.
  expect(complete('orchestrator', 'runs', 'tw')).toEqual(['']);
  expect(complete('orchestrator', 'status', '')).toContain('$(touch carried-out)');
  expect(existsSync(join(folder, 'carried-out'))).toBe(false);
});
