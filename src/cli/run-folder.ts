/** Run folders as arguments of commands. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { underRuns } from '../checkpoint/resume.js';
import { OrchestratorError } from '../errors.js';

/** What the argument of a command that takes a run means. */
export const RUN = 'folder of the run, or its name under runs/';

/** The folder itself, or the one of this name under runs/. */
export function runFolder(run: string): string {
  const found = underRuns(run);
  if (existsSync(found) && statSync(found).isDirectory()) return found;
  throw new OrchestratorError(
    'ERR_RUN_DIR',
    `There is no run folder ${run} or ${join('runs', run)}`,
    'Paths are relative to the working directory; `launch` prints the run folder when it starts',
  );
}
