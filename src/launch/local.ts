/** Starts the processes of a run on this machine. */
import { shellText } from '../text/shell.js';
import { type Child, startChild } from './children.js';
import type { Launcher } from './launcher.js';
import type { ProcessSpec } from './processes.js';

function start({ name, command, environment }: ProcessSpec): Promise<Child> {
  return startChild(name, command, environment, ['pipe', 'pipe', 'pipe'], null);
}

function shellLine({ command, environment }: ProcessSpec): string {
  return shellText(command, environment);
}

function hasEnded(): boolean {
  return true;
}

function saysUnreachable(): boolean {
  return false;
}

export const local = {
  start,
  shellLine,
  hasEnded,
  saysUnreachable,
  saysLost: saysUnreachable,
} satisfies Launcher;
