/** Starts the processes of a run on this machine. */
import type { StdioOptions } from 'node:child_process';
import { shellText } from '../text/shell.js';
import { type Child, startChild } from './children.js';
import type { Launcher } from './launcher.js';
import type { ProcessSpec, Secrets } from './processes.js';

function start(
  { name, command, environment }: ProcessSpec,
  secrets: Secrets,
  stdio: StdioOptions = ['ignore', 'pipe', 'pipe'],
): Promise<Child> {
  return startChild(name, command, { ...secrets, ...environment }, stdio);
}

function shellLine({ command, environment }: ProcessSpec, secrets: Secrets): string {
  return shellText(command, { ...secrets, ...environment });
}

export const local = { start, shellLine } satisfies Launcher;
