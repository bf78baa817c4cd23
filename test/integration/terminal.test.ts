/** What a run shows on terminals and pipes, and that it never waits for them. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../support/folders.js';
import { rows } from '../support/full.js';
import { fingerprint, readLines, TRAINING } from '../support/launched.js';
import { because, needs } from '../support/needs.js';
import { MAIN } from '../support/program.js';
import { OnTerminal } from '../support/terminal.js';
import { undisturbed } from '../support/undisturbed.js';

const folder = temporaryFolder();
const noScript = needs('script');

const command = (runDir: string, ...more: string[]) => [
  ...[process.execPath, MAIN, 'launch', TRAINING, '--nodes', '2', '--run-dir', runDir],
  ...more,
];

/** Waits until the run has ended and given its folder back. */
async function runEnded(runDir: string): Promise<void> {
  const checkpoint = join(runDir, 'checkpoints/step-00000024/manifest.json');
  while (!existsSync(checkpoint) || existsSync(join(runDir, 'lock'))) await sleep(20);
}

test.skipIf(noScript)(
  because('a run goes on, to the same bits, on a terminal that stands still', noScript),
  async () => {
    const runDir = join(folder, 'stalled');
    const terminal = new OnTerminal(command(runDir));
    await terminal.shows('JOINING');
    // The run waits until the key has come.
    const { pid } = JSON.parse(readFileSync(join(runDir, 'lock'), 'utf8')) as { pid: number };
    process.kill(pid, 'SIGSTOP');
    await terminal.stop();
    process.kill(pid, 'SIGCONT');
    await runEnded(runDir);
    expect(terminal.output).not.toContain('All 24 steps are done');
    terminal.type('\x11');
    expect(await terminal.ended).toBe(0);
    expect(fingerprint(runDir, 24)).toEqual(fingerprint((await undisturbed()).runDir, 24));
  },
);

test('a run ends, though a pipe is full and nobody reads from it', async () => {
  const runDir = join(folder, 'unread');
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const { O_RDWR, O_NONBLOCK } = constants;
  const ours = openSync(pipe, O_RDWR | O_NONBLOCK);
  const full = () => {
    for (;;) writeSync(ours, 'x'.repeat(4096));
  };
  expect(full).toThrow('EAGAIN');
  const [file, ...parameters] = command(runDir);
  // As a shell would, the run opens it without O_NONBLOCK.
  const child = spawn(file!, parameters, { stdio: ['ignore', openSync(pipe, O_RDWR), 'inherit'] });
  const [code] = await once(child, 'exit');
  expect(code).toBe(0);
  expect(readLines(join(runDir, 'ledger.jsonl'))).toHaveLength(24);
});

describe.skipIf(noScript)(because('on a terminal', noScript), () => {
  const quick = [
    '--nodes',
    '1',
    '--set',
    'schedule.steps=5',
    '--set',
    'schedule.warmup=0',
    '--set',
    'validation.every=0',
  ];
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what draws the table
  const [redraws, colours] = [/\x1b\[\d+A/, /\x1b\[\d+m/];

  test.each(
    rows<[string, NodeJS.ProcessEnv, boolean, boolean]>(
      [
        ['a table in colours', {}, true, true],
        ['NO_COLOR: without them', { NO_COLOR: '1' }, true, false],
        ['CI=true: lines', { CI: 'true' }, false, false],
      ],
      [['TERM=dumb: lines', { TERM: 'dumb' }, false, false]],
    ),
  )('%s', async (name, env, table, coloured) => {
    const terminal = new OnTerminal(command(join(folder, name.replaceAll(/\W/g, '')), ...quick), { env });
    expect(await terminal.ended).toBe(0);
    const { output } = terminal;
    expect([redraws.test(output), colours.test(output)], output).toEqual([table, coloured]);
    expect(output).toMatch(/\d\d:\d\d:\d\d All 5 steps are done/);
    // As grep finds it.
    expect(output).toContain('step 5/5');
  });

  test('the table follows the size of the terminal', async () => {
    const long = [
      '--set',
      'schedule.steps=1000000',
      '--set',
      'validation.every=0',
      '--set',
      'checkpoint.every=0',
    ];
    const terminal = new OnTerminal(command(join(folder, 'resized'), ...long), { columns: 160 });
    await terminal.shows(/loop p99/);
    const from = terminal.output.length;
    execFileSync('stty', ['-F', terminal.path, 'cols', '60']);
    await expect
      .poll(() => stripVTControlCharacters(terminal.output.slice(from)).split('rank ').length, {
        timeout: 60_000,
      })
      .toBeGreaterThan(9);
    const lines = stripVTControlCharacters(terminal.output.slice(from))
      .split(/\r?\n|\r/)
      .slice(-20);
    for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(60);
    terminal.type('\x03');
    expect(await terminal.ended).toBe(130);
  });
});
