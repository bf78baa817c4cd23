/** `orchestrator drain`: lets one worker of a run go, which goes on with the others. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { journalOf, LOCK, type RecordedPlace } from '../../coordinator/run-dir.js';
import { OrchestratorError } from '../../errors.js';
import { reasonOf } from '../../files/io.js';
import { isAlive } from '../../files/processes.js';
import { ENVIRONMENT } from '../../launch/processes.js';
import { lockOwner } from '../../native/lock.js';
import { shellText } from '../../text/shell.js';
import { RUN, runFolder } from '../run-folder.js';

const POLL_MS = 100;

export function register(program: Command): void {
  program
    .command('drain')
    .description(
      'let a worker of a run of this machine go: it leaves after the step, and is not started again',
    )
    .argument('<run>', RUN)
    .argument('<worker>', 'its id, such as local-1')
    .action(async (run: string, id: string) => {
      const runDir = runFolder(run);
      const owner = lockOwner(join(runDir, LOCK));
      if (owner === null) throw new OrchestratorError('ERR_NOT_RUNNING', `Nothing runs in ${runDir}`);
      if (owner.elsewhere !== null) {
        const message = `The run in ${runDir} is of another container or machine (${owner.elsewhere})`;
        throw new OrchestratorError('ERR_STOP', message, 'Drain it from there');
      }
      const { workers, minWorkers } = journalOf(runDir);
      const worker = workers.find((other) => other.id === id);
      if (worker === undefined) {
        const known = workers.map(({ id }) => id).join(', ') || 'none yet';
        throw new OrchestratorError('ERR_USAGE', `The run in ${runDir} has no worker ${id}; it has ${known}`);
      }
      if (workers.length <= minWorkers) {
        const needs =
          minWorkers === 1 ? 'its last worker' : `all of its ${minWorkers} workers (--min-workers)`;
        const hint = `\`orchestrator stop ${run}\` ends the run with a checkpoint`;
        throw new OrchestratorError('ERR_USAGE', `The run in ${runDir} needs ${needs}`, hint);
      }
      signal(worker, runDir);
      while (isAlive(owner) && runs(worker)) await sleep(POLL_MS);
      process.stdout.write(`worker ${id} (pid ${worker.pid}) has left the run in ${runDir}\n`);
    });
}

/** A worker takes SIGTERM for a request to leave. */
function signal(worker: RecordedPlace, runDir: string): void {
  const { id, pid, host } = worker;
  const name = `Worker ${id} of the run in ${runDir}`;
  if (host !== hostname()) {
    // Only this machine has the run folder.
    const hint = `Tell it there: ${shellText(['ssh', host, 'kill', '-TERM', String(pid)])}`;
    throw new OrchestratorError('ERR_STOP', `${name} is on ${host}`, hint);
  }
  if (!runs(worker)) throw new OrchestratorError('ERR_NOT_RUNNING', `${name} (pid ${pid}) has ended`);
  try {
    process.kill(pid, 'SIGTERM');
  } catch (error) {
    throw new OrchestratorError(
      'ERR_STOP',
      `${name} (pid ${pid}) cannot be told to leave: ${reasonOf(error)}`,
    );
  }
}

/** Whether the process is that of the worker: a process id is reused. */
function runs({ id, pid, host }: RecordedPlace): boolean {
  try {
    // One that no launcher has started is named after its process.
    if (id === `${host}-${pid}`)
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes('worker');
    const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    return variables.includes(`${ENVIRONMENT.workerId}=${id}`);
  } catch {
    return false;
  }
}
