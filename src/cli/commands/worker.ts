/** `orchestrator worker`: the process that trains. */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { OrchestratorError } from '../../errors.js';
import { ENVIRONMENT } from '../../launch/processes.js';
import { native } from '../../native/load.js';
import { readCredential } from '../../security/credential.js';
import { onStopSignals, SIGNAL_EXIT } from '../../signals.js';
import { advertisedHost, portNumber } from '../arguments.js';
import { ignoreOutputErrors } from '../output.js';

interface WorkerFlags {
  credential: string;
  port: number;
  advertise?: string;
}

/** The number of workers on this machine, named as in torchrun; one unless the launcher says otherwise. */
function localWorldSize({ [ENVIRONMENT.localWorldSize]: given = '1' }: NodeJS.ProcessEnv): number {
  if (/^[1-9]\d{0,3}$/.test(given)) return Number(given);
  throw new OrchestratorError(
    'ERR_USAGE',
    `${ENVIRONMENT.localWorldSize}: expected the number of workers on this machine, received ${given}`,
  );
}

export function register(program: Command): void {
  program
    .command('worker')
    .description(
      'join a run as a worker; `launch` starts those of its machine, and `invite` prints the credential',
    )
    .requiredOption('--credential <file|->', 'file with the credential; - = standard input')
    .option('--port <n>', 'port on which workers of other machines reach this one; 0 = any', portNumber, 0)
    .option(
      '--advertise <host>',
      'host under which they reach it (default: the address from which it reaches the coordinator)',
      advertisedHost,
    )
    .action(async ({ credential, port, advertise }: WorkerFlags) => {
      ignoreOutputErrors();
      // Who types it may still interrupt it.
      const given = readCredential(credential);
      // Until it has joined, there is nothing to save.
      onStopSignals((signal) => process.exit(SIGNAL_EXIT[signal]));
      const { runWorker } = await import('../../worker/run.js');
      const exitCode = await runWorker({
        credential: given,
        workerId: process.env[ENVIRONMENT.workerId] ?? `${hostname()}-${process.pid}`,
        port,
        advertise: advertise ?? null,
        localWorkers: localWorldSize(process.env),
      });
      // A run that failed or was stopped may end in the middle of a step.
      native().exitProcess(exitCode);
    });
}
