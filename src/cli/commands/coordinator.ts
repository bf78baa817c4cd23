/** `orchestrator coordinator`: the process that coordinates a run, started by `launch`. */
import type { Command } from 'commander';
import { loadConfig } from '../../config/load.js';
import { EXIT } from '../../errors.js';
import { ENVIRONMENT, LOOPBACK } from '../../launch/processes.js';
import type { CoordinatorNotice, LauncherNotice } from '../../launch/supervise.js';
import { onStopSignals, SIGNAL_EXIT } from '../../signals.js';
import { requireVariable, workerCount } from '../arguments.js';
import { configArgument } from '../options.js';
import { ignoreOutputErrors } from '../output.js';

interface CoordinatorCommandOptions {
  workers: number;
  runDir: string;
  resume: string;
  listen: string;
  prometheusTargets?: string;
  set: string[];
}

export function register(program: Command): void {
  const command = program
    .command('coordinator', { hidden: true })
    .description('the coordinator of a run; started by launch');
  configArgument(command)
    .requiredOption('--workers <n>', 'number of workers', workerCount)
    .requiredOption('--run-dir <dir>', 'folder of the run')
    .option('--resume <auto|never|path>', 'checkpoint to resume from', 'auto')
    .option('--listen <host:port>', 'address for the workers; on loopback', LOOPBACK)
    .option('--prometheus-targets <file>', "file for Prometheus' file-based discovery")
    .action(async (configPath: string, { set, prometheusTargets, ...options }: CoordinatorCommandOptions) => {
      ignoreOutputErrors();
      const { startCoordinator } = await import('../../coordinator/run.js');
      const run = await startCoordinator({
        ...options,
        prometheusTargets: prometheusTargets ?? null,
        config: loadConfig(configPath, set),
        token: requireVariable(ENVIRONMENT.token),
        onListening: (address) => {
          // If the launcher has ended, this is not an error, because "disconnect" follows.
          if (process.send) process.send({ listening: address } satisfies CoordinatorNotice, () => {});
          else process.stdout.write(`listening on ${address}\n`);
        },
      });
      onStopSignals((signal) =>
        run.stop(SIGNAL_EXIT[signal], signal === 'SIGINT' ? 'interrupted' : `received ${signal}`),
      );
      process.on('message', ({ exited, output }: LauncherNotice) => {
        if (exited) run.workerExited(exited.workerId, exited.exit);
        if (output !== undefined) run.workerOutput(output);
      });
      process.once('disconnect', () => run.stop(EXIT.preempted, 'the launcher has ended'));
      process.exit(await run.done);
    });
}
