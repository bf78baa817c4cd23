/** `orchestrator worker`: the process that trains. */
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { OrchestratorError } from '../../errors.js';
import { ENVIRONMENT } from '../../launch/processes.js';
import { native } from '../../native/load.js';
import { type Credential, parseCredential, readCredential } from '../../security/credential.js';
import { onStopSignals, SIGNAL_EXIT } from '../../signals.js';
import { advertisedHost, portNumber } from '../arguments.js';
import { ignoreOutputErrors, printNote } from '../output.js';
import { coordinatorOf, RUN, runFolder } from '../run-folder.js';

/** How long a worker of the coordinator's machine has to use its token. */
const JOIN_SECONDS = 60;

interface WorkerFlags {
  credential?: string;
  join?: string;
  port: number;
  data?: string;
  advertise?: string;
}

/** The number of workers on this machine, named as in torchrun; null: nobody says it. */
function localWorldSize({ [ENVIRONMENT.localWorldSize]: given }: NodeJS.ProcessEnv): number | null {
  if (given === undefined) return null;
  if (/^[1-9]\d{0,3}$/.test(given)) return Number(given);
  throw new OrchestratorError(
    'ERR_USAGE',
    `${ENVIRONMENT.localWorldSize}: expected the number of workers on this machine, received ${given}`,
  );
}

async function credentialFrom({ credential, join }: WorkerFlags): Promise<Credential> {
  if ((credential === undefined) === (join === undefined)) {
    throw new OrchestratorError(
      'ERR_USAGE',
      'Expected either --join RUN or --credential FILE',
      '--join is for the machine of the coordinator; for others `orchestrator invite RUN` prints a credential',
    );
  }
  if (credential !== undefined) return readCredential(credential, (text) => printNote(`warn ${text}`));
  const runDir = runFolder(join!);
  const { credentialHere } = await import('../../rpc/invite.js');
  return parseCredential(await credentialHere(coordinatorOf(runDir, 'worker --join'), JOIN_SECONDS), runDir);
}

export function register(program: Command): void {
  program
    .command('worker')
    .description(
      'join a run as a worker; `launch` starts those of its machine, and `invite` prints the credential',
    )
    .option('--join <run>', `a run of this machine and user: ${RUN}`)
    .option('--credential <file|->', 'file with the credential of a run elsewhere; - = standard input')
    .option('--data <dir>', 'where this machine has the data set (default: data.path of the run)')
    .option('--port <n>', 'port on which workers of other machines reach this one; 0 = any', portNumber, 0)
    .option(
      '--advertise <host>',
      'host under which they reach it (default: the address from which it reaches the coordinator)',
      advertisedHost,
    )
    .action(async (flags: WorkerFlags) => {
      ignoreOutputErrors();
      // The credential may come later than the process: launch starts it together with the coordinator.
      const { runWorker } = await import('../../worker/run.js');
      native();
      // Who types it may still interrupt it.
      const credential = await credentialFrom(flags);
      // Until it has joined, there is nothing to save.
      onStopSignals((signal) => process.exit(SIGNAL_EXIT[signal]));
      const { [ENVIRONMENT.workerId]: started } = process.env;
      const exitCode = await runWorker({
        credential,
        ownAccord: started === undefined,
        workerId: started ?? `${hostname()}-${process.pid}`,
        port: flags.port,
        data: flags.data ?? null,
        advertise: flags.advertise ?? null,
        // On another machine it is alone unless somebody says otherwise.
        localWorkers: localWorldSize(process.env) ?? (flags.join === undefined ? 1 : null),
      });
      // A run that failed or was stopped may end in the middle of a step.
      native().exitProcess(exitCode);
    });
}
