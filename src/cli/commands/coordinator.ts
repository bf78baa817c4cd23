/** `orchestrator coordinator`: the process that coordinates a run, started by `launch`. */
import type { Command } from 'commander';
import { loadConfigWithSources } from '../../config/load.js';
import type { Run } from '../../coordinator/run.js';
import { EXIT } from '../../errors.js';
import type { CoordinatorNotice, LauncherNotice } from '../../launch/notices.js';
import { onStopSignals, type StopSignal, stopEarly } from '../../signals.js';
import type { Send } from '../../telemetry/relay.js';
import { advertisedHost, listenAddress, workerCount } from '../arguments.js';
import { configArgument, networkOf, patienceOption, seenFrom } from '../options.js';
import { ignoreOutputErrors } from '../output.js';

interface CoordinatorCommandOptions {
  workers: number;
  minWorkers?: number;
  runDir: string;
  resume: string;
  patience: number;
  again: boolean;
  allowDataChange: boolean;
  instructionSets?: string[];
  listen?: string;
  advertise?: string;
  prometheusTargets?: string;
  set: string[];
}

export function register(program: Command): void {
  const command = program
    .command('coordinator', { hidden: true })
    .description('the coordinator of a run; started by launch');
  patienceOption(configArgument(command))
    .requiredOption('--workers <n>', 'number of workers', workerCount)
    .option('--min-workers <n>', 'go on when so many are left (default: 1)', workerCount)
    .requiredOption('--run-dir <dir>', 'folder of the run')
    .option('--resume <auto|never|path>', 'checkpoint to resume from', 'auto')
    .option('--again', 'take the place of a coordinator that has died', false)
    .option('--allow-data-change', 'go on with a data set that was corrected or extended', false)
    .option(
      '--instruction-sets <list>',
      'those that all workers of launch have, the best first, where some have others',
      (list: string) => list.split(','),
    )
    .option('--listen <host:port>', 'address for workers of other machines (default: none)', listenAddress)
    .option(
      '--advertise <host>',
      'host under which they reach it (default: that of --listen)',
      advertisedHost,
    )
    .option('--prometheus-targets <file>', "file for Prometheus' file-based discovery")
    .action(
      async (
        configPath: string,
        { set, prometheusTargets, listen, advertise, patience, ...options }: CoordinatorCommandOptions,
      ) => {
        ignoreOutputErrors();
        let run: Run | null = null;
        let early: StopSignal | null = null;
        onStopSignals((signal) => {
          if (run === null) {
            // Until there is a run, there is nothing to save, unless workers wait for this process.
            if (!options.again) stopEarly(signal);
            early ??= signal;
            return;
          }
          run.stop(signal);
          tell({ stopping: true });
        });
        const network = networkOf(listen, advertise);
        // One that takes the place of another goes on with what the other has begun.
        const isPrepared = process.send !== undefined && !options.again;
        const permitted = isPrepared ? permission() : options;
        const { startCoordinator } = await import('../../coordinator/start.js');
        const loaded = loadConfigWithSources(configPath, set);
        // While it waits for the permission, it loads what takes its time, and what this run needs.
        if (network !== null) await import('../../security/authority.js');
        if (loaded.config.telemetry.metrics_port !== null) await import('../../telemetry/prometheus.js');
        const { instructionSets = null } = await permitted;
        run = await startCoordinator({
          ...options,
          instructionSets,
          runDir: seenFrom(network, options.runDir),
          minWorkers: options.minWorkers ?? 1,
          patienceSeconds: patience,
          loaded,
          prometheusTargets: prometheusTargets ?? null,
          network,
          launcher: process.send === undefined ? null : toLauncher,
          onMember: (workerId, presence, pid) => tell({ member: { workerId, presence, pid } }),
          onListening: (credential, orphans) => {
            if (process.send) tell({ listening: { credential, orphans } });
            else process.stdout.write(`credential of workers of this machine: ${credential}\n`);
          },
        });
        if (run === null) process.exit(EXIT.done);
        const started = run;
        if (early !== null) started.stop(early);
        process.on('message', ({ expected, exited, gone, forgotten, warning, output }: LauncherNotice) => {
          if (expected) started.workersExpected(expected);
          if (gone) started.workerGone(gone);
          if (forgotten) started.workerForgotten(forgotten);
          if (exited) started.workerExited(exited.workerId, exited);
          if (warning !== undefined) started.launchWarning(warning);
          if (output !== undefined) started.workerOutput(output);
        });
        const abandoned = () => started.stop('SIGTERM', 'the launcher has ended');
        if (process.connected === false) abandoned();
        else process.once('disconnect', abandoned);
        process.exit(await started.done);
      },
    );
}

/** What the launcher says when the run may begin. Without one there is none. */
function permission(): Promise<NonNullable<LauncherNotice['begin']>> {
  return new Promise((resolve) => {
    const abandoned = () => process.exit(EXIT.failed);
    if (process.connected === false) abandoned();
    process.once('disconnect', abandoned);
    process.once('message', ({ begin }: LauncherNotice) => {
      process.off('disconnect', abandoned);
      resolve(begin!);
    });
  });
}

/** A launcher that has ended takes nothing, which is no error: "disconnect" follows. */
const toLauncher: Send = (message, taken) =>
  process.send!(message satisfies CoordinatorNotice, undefined, {}, taken);

/** Tells the launcher. If it has ended, this is not an error, because "disconnect" follows. */
function tell(notice: CoordinatorNotice): void {
  process.send?.(notice, () => {});
}
