/** `orchestrator worker`: the process that trains, started by `launch`. */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { ENVIRONMENT } from '../../launch/processes.js';
import { native } from '../../native/load.js';
import { onStopSignals, SIGNAL_EXIT } from '../../signals.js';
import { requireVariable } from '../arguments.js';
import { ignoreOutputErrors } from '../output.js';

export function register(program: Command): void {
  program
    .command('worker', { hidden: true })
    .description('a worker of a run; started by launch')
    .action(async () => {
      ignoreOutputErrors();
      // Until it has joined, there is nothing to save.
      onStopSignals((signal) => process.exit(SIGNAL_EXIT[signal]));
      const { runWorker } = await import('../../worker/run.js');
      const exitCode = await runWorker({
        coordinator: requireVariable(ENVIRONMENT.coordinator),
        token: requireVariable(ENVIRONMENT.token),
        workerId: process.env[ENVIRONMENT.workerId] ?? `${hostname()}-${process.pid}`,
      });
      // A run that failed or was stopped may end in the middle of a step.
      native().exitProcess(exitCode);
    });
}
