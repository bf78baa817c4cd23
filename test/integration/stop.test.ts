/** `orchestrator stop`: ends a run in order, from anywhere on its machine. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, expect, test, vi } from 'vitest';
import { endlessRun, expectSaved, send } from '../support/endless-run.js';
import { temporaryFolder } from '../support/folders.js';
import { ends, isPending, isSuspended, readLines } from '../support/launched.js';
import { MAIN, orchestrator } from '../support/program.js';

const folder = temporaryFolder();
const training = (name: string, ...more: string[]) => endlessRun(join(folder, name), ...more);
afterEach(() => vi.unstubAllEnvs());

/** `orchestrator stop` beside this process: resolves when it has ended. */
async function stops(runDir: string, ...options: string[]) {
  const child = spawn(process.execPath, [MAIN, 'stop', runDir, ...options]);
  const [output, [status]] = await Promise.all([
    Promise.all([text(child.stdout), text(child.stderr)]),
    once(child, 'close'),
  ]);
  return { status, stdout: output[0], stderr: output[1] };
}

test('ends the run in order, waits for it, and says what was saved', async () => {
  const { run, runDir } = await training('told');
  const { status, stdout, stderr } = orchestrator('stop', runDir);
  const { step } = readLines(join(runDir, 'ledger.jsonl')).at(-1) as { step: number };
  expect(stderr).toBe('');
  expect(stdout).toBe(
    `stopped after step ${step}, saved in ${runDir}/checkpoints/step-${String(step).padStart(8, '0')}; ` +
      'the command that started the run resumes it, with `--resume auto` (the default)\n',
  );
  expect(status).toBe(0);
  expectSaved(runDir, (await ends(run.outcome, 143)).output);
  expect(orchestrator('stop', runDir)).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(
      /^error ERR_NOT_RUNNING: Nothing runs in .*; its last checkpoint is .*step-/,
    ),
  });
});

test('--no-wait and --timeout', async () => {
  const { run, runDir, pids } = await training('told-only');
  send(pids.coordinator, 'SIGSTOP');
  expect(orchestrator('stop', runDir, '--no-wait')).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('told the run'),
  });
  expect(orchestrator('stop', runDir, '--timeout', '0.2')).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^error ERR_STOP: the run in .* has not ended within 0.2 s/),
  });
  send(pids.coordinator, 'SIGCONT');
  await ends(run.outcome, 143);
});

test('stops the run also where the coordinator dies with nothing unsaved, and another one takes its place', async () => {
  // Told to stop while it commits step 5, it stops the run after step 6, or 7 if the workers are as quick as the signal.
  const faults = ['recorded:5:stop', 'published:6:kill', 'published:7:kill'];
  vi.stubEnv('ORCHESTRATOR_FAULT', faults.map((fault) => `coordinator:${fault}`).join());
  const { run, runDir, pids } = await training('told-saved');
  await expect.poll(() => isSuspended(pids.coordinator)).toBe(true);
  const told = stops(runDir);
  await expect.poll(() => isPending(pids.coordinator, 'SIGTERM')).toBe(true);
  send(pids.coordinator, 'SIGCONT');
  const { status, stdout } = await told;
  expect(status).toBe(0);
  const { output } = await ends(run.outcome, 143);
  expect(output).toContain('it is started again in 1 s');
  const [, step] = /^stopped after step (\d+), saved in /.exec(stdout)!;
  expect(output).toContain(`received SIGTERM: stopped after step ${step}; `);
});

test('--timeout is the longest wait also where the coordinator has died, and the next one does not come', async () => {
  const { run, runDir, pids } = await training('told-late', '--max-restarts', '0');
  send(pids.coordinator, 'SIGSTOP');
  const told = stops(runDir, '--timeout', '2');
  await expect.poll(() => isPending(pids.coordinator, 'SIGTERM')).toBe(true);
  send(pids.launcher, 'SIGSTOP');
  send(pids.coordinator, 'SIGKILL');
  const { status, stderr } = await told;
  expect(status).toBe(1);
  expect(stderr).toMatch(/^error ERR_STOP: the run in .* has not ended within 2 s/);
  send(pids.launcher, 'SIGCONT');
  await ends(run.outcome, 1);
});

test('says what is lost where the run ends without a checkpoint', async () => {
  const { run, runDir, pids } = await training('told-killed', '--max-restarts', '0');
  send(pids.coordinator, 'SIGSTOP');
  const told = stops(runDir);
  // SIGTERM waits for the coordinator to go on, which it does not.
  await expect.poll(() => isPending(pids.coordinator, 'SIGTERM')).toBe(true);
  send(pids.coordinator, 'SIGKILL');
  const { status, stderr } = await told;
  expect(status).toBe(1);
  expect(stderr).toMatch(
    /^error ERR_STOP: The run in .* ended after step (\d+): there is no checkpoint yet: \1 steps are lost\nhint: .*run\.log says why it ended/,
  );
  await ends(run.outcome, 1);
});

test("of another user's run says whose it is", async ({ skip }) => {
  const nobody = 65_534;
  chmodSync(folder, 0o755);
  const asNobody = (...parameters: string[]) =>
    spawnSync(process.execPath, [MAIN, ...parameters], { uid: nobody, encoding: 'utf8' });
  if (process.getuid?.() !== 0 || asNobody('--version').status !== 0) {
    skip('needs root, and a checkout that others can read');
  }
  const { run, runDir } = await training('foreign');
  const { status, stderr } = asNobody('stop', runDir);
  expect(stderr).toMatch(
    /^error ERR_STOP: The run in .* cannot be stopped by \w+: the operation is not permitted \(EPERM\)\nhint: It belongs to user 0/,
  );
  expect(status).toBe(1);
  run.process.kill('SIGTERM');
  await ends(run.outcome, 143);
});

test('a folder that is none', () => {
  expect(orchestrator('stop', join(folder, 'nowhere'))).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('ERR_RUN_DIR: There is no run folder'),
  });
});
