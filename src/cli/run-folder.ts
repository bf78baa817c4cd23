/** Run folders as arguments of commands. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { underRuns } from '../checkpoint/resume.js';
import { OrchestratorError } from '../errors.js';
import { localCredential } from '../run-folder/secrets.js';

/** What the argument of a command that takes a run means. */
export const RUN = 'folder of the run, or its name under runs/';

/** The folder itself, or the one of this name under runs/. */
export function runFolder(run: string): string {
  const found = underRuns(run);
  if (existsSync(found) && statSync(found).isDirectory()) return found;
  throw new OrchestratorError(
    'ERR_RUN_DIR',
    `There is no run folder ${run}${run.includes('/') ? '' : ` or ${join('runs', run)}`}`,
    'Paths are relative to the working directory; `launch` prints the run folder when it starts',
  );
}

/** The address of the run's coordinator, for processes of its machine and user; `what` names what needs it. */
export function coordinatorOf(runDir: string, what: string): string {
  const address = localCredential(runDir);
  if (address !== null) return address;
  const hint = `\`${what}\` works on the machine of the coordinator, as the user of the run`;
  throw new OrchestratorError('ERR_NOT_RUNNING', `Nothing that can be joined runs in ${runDir}`, hint);
}
