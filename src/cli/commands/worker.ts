/** `orchestrator worker`: the process that trains, started by `launch`. */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { ENVIRONMENT } from '../../launch/commands.js';
import { requireVariable } from '../arguments.js';

export function register(program: Command): void {
  program
    .command('worker', { hidden: true })
    .description('a worker of a run; started by launch')
    .action(async () => {
      // The launcher may die before its workers; what they would print then goes nowhere.
      for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
      const { runWorker } = await import('../../worker/run.js');
      const exitCode = await runWorker({
        coordinator: requireVariable(ENVIRONMENT.coordinator),
        token: requireVariable(ENVIRONMENT.token),
        workerId: process.env[ENVIRONMENT.workerId] ?? `${hostname()}-${process.pid}`,
      });
      process.exit(exitCode);
    });
}
