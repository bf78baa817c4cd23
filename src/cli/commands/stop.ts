/** `orchestrator stop`: stops a run in order, from anywhere on its machine. */
import { statSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { OrchestratorError } from '../../errors.js';
import { errnoOf, reasonOf } from '../../files/io.js';
import { argumentsOf, isAlive, isSuspended, type ProcessId, parentOf } from '../../files/processes.js';
import { lockOwner, type Owner } from '../../native/lock.js';
import { lossOf, progressOf } from '../../run-folder/progress.js';
import { LOCK, LOG } from '../../run-folder/run-dir.js';
import { localCredential } from '../../run-folder/secrets.js';
import { timeLimit } from '../arguments.js';
import { printPage } from '../output.js';
import { RUN, runFolder } from '../run-folder.js';

const POLL_MS = 100;
/** Where nobody knows whether a launcher lives: its next coordinator is there within this time. */
const RESTART_MS = 30_000;

/** Who starts another coordinator if one dies; unknown: that one had ended before its parent was looked for. */
type Launcher = ProcessId | 'none' | 'unknown';

interface StopFlags {
  wait: boolean;
  timeout?: number;
}

export function register(program: Command): void {
  program
    .command('stop')
    .description('stop a run of this machine: it finishes its step, writes a checkpoint and ends with 143')
    .argument('<run>', RUN)
    .option('--no-wait', 'return at once, without waiting until the run has ended')
    .option(
      '--timeout <time>',
      'wait at most this long, such as 90s or 2m; the run goes on stopping (default: no limit)',
      timeLimit,
    )
    .action(async (run: string, { wait, timeout }: StopFlags) => {
      const runDir = runFolder(run);
      let owner = lockOwner(join(runDir, LOCK));
      if (owner === null) {
        const { checkpoint } = await progressOf(runDir);
        const last =
          checkpoint === null ? 'it has no checkpoint' : `its last checkpoint is ${checkpoint.path}`;
        throw new OrchestratorError('ERR_NOT_RUNNING', `Nothing runs in ${runDir}; ${last}`);
      }
      let launcher = signal(owner, runDir);
      const who = `the run in ${runDir} (coordinator ${owner.pid})`;
      if (!wait) {
        process.stdout.write(`told ${who} to stop\n`);
        return;
      }
      const end = performance.now() + (timeout ?? Number.POSITIVE_INFINITY) * 1000;
      const pause = async () => {
        if (performance.now() > end) {
          const hint = 'It was told to stop; the same command waits for it again';
          throw new OrchestratorError('ERR_STOP', `${who} has not ended within ${timeout} s`, hint);
        }
        await sleep(POLL_MS);
      };
      while (owner !== null) {
        while (isAlive(owner)) await pause();
        owner = await successor(runDir, launcher, pause);
        if (owner !== null) launcher = signal(owner, runDir);
      }
      printPage(await result(runDir));
    });
}

/**
 * The coordinator that `launch` has started in the place of one that has died; null if there is none.
 *
 * @param pause waits until it is worth another look.
 */
async function successor(
  runDir: string,
  launcher: Launcher,
  pause: () => Promise<void>,
): Promise<Owner | null> {
  // One that has ended the run, in whatever way, has removed its address.
  if (localCredential(runDir) === null) return null;
  for (const end = performance.now() + RESTART_MS; ; await pause()) {
    const owner = lockOwner(join(runDir, LOCK));
    if (owner !== null) return owner;
    // A launcher that lives starts another one, or ends.
    const isComing =
      launcher === 'unknown' ? performance.now() < end : launcher !== 'none' && isAlive(launcher);
    if (!isComing) return null;
  }
}

/**
 * The coordinator takes SIGTERM for a request to end in order, once for all its processes. A launcher that was
 * suspended goes on, and lets the others go on.
 *
 * @returns the launcher.
 */
function signal(owner: Owner, runDir: string): Launcher {
  const { pid, elsewhere } = owner;
  if (elsewhere !== null) {
    const message = `The run in ${runDir} is of another container or machine (${elsewhere})`;
    throw new OrchestratorError('ERR_STOP', message, 'Stop it from there');
  }
  try {
    const launcher = launcherOf(owner);
    // One that is suspended after the signal is not to be woken by it.
    const suspended = typeof launcher === 'object' && isSuspended(launcher) ? launcher : null;
    process.kill(pid, 'SIGTERM');
    if (suspended !== null) process.kill(suspended.pid, 'SIGCONT');
    return launcher;
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') return 'unknown'; // it has just ended
    throw new OrchestratorError(
      'ERR_STOP',
      `The run in ${runDir} (coordinator ${pid}) cannot be stopped by ${userInfo().username}: ${reasonOf(error)}`,
      `It belongs to user ${ownerOf(pid)}, who can stop it`,
    );
  }
}

/** The parent of a coordinator, unless a shell has started it, or its launcher has ended. */
function launcherOf(coordinator: Owner): Launcher {
  const parent = parentOf(coordinator);
  return parent !== null && argumentsOf(parent).includes('launch') ? parent : 'none';
}

/** The user id under which a process runs. */
function ownerOf(pid: number): string {
  try {
    return String(statSync(`/proc/${pid}`).uid);
  } catch {
    return 'unknown';
  }
}

/** What the ended run has saved. */
async function result(runDir: string): Promise<string> {
  const progress = await progressOf(runDir);
  const { step, checkpoint } = progress;
  const loss = lossOf(progress);
  if (loss !== null) {
    const hint = `${join(runDir, LOG)} says why it ended`;
    throw new OrchestratorError('ERR_STOP', `The run in ${runDir} ended after step ${step}: ${loss}`, hint);
  }
  return checkpoint === null
    ? `the run in ${runDir} ended before its first step\n`
    : `stopped after step ${step}, saved in ${checkpoint.path}; the command that started the run resumes it, with \`--resume auto\` (the default)\n`;
}
