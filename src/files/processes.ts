/** Whether a process still is the one that it was, and where its id means the same. */
import { readFileSync, readlinkSync } from 'node:fs';
import { errnoOf, textOrNull } from './io.js';

export interface ProcessId {
  pid: number;
  /** Start of the process in clock ticks since boot, because a process id is reused. */
  started: string | null;
}

export function thisProcess(): ProcessId {
  return processId(process.pid);
}

/** Where process ids mean the same: a boot of the machine, and the namespace of processes. '' where it is not known. */
export function processSpace(): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${boot} ${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return '';
  }
}

/** The process that has this id now. */
export function processId(pid: number): ProcessId {
  return { pid, started: startOf(pid) };
}

/** Whether a process with this id exists, also another user's. */
export function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) !== 'ESRCH';
  }
}

export function isAlive({ pid, started }: ProcessId): boolean {
  if (!processExists(pid)) return false;
  const now = startOf(pid);
  return now === null || started === null || now === started;
}

/**
 * When a process started, or null where that is unknown; '' for a zombie, which holds nothing, because it
 * differs from every start time.
 */
function startOf(pid: number): string | null {
  const { state, started } = statOf(pid);
  return state === 'Z' ? '' : (started ?? null);
}

/** The process that started another; null: that has ended, or the first of all processes has started it. */
export function parentOf({ pid }: ProcessId): ProcessId | null {
  const parent = Number(statOf(pid).parent ?? 0);
  return parent > 1 ? processId(parent) : null;
}

/** The words of the command that a process executes; none if it has ended. */
export function argumentsOf({ pid }: ProcessId): string[] {
  return textOrNull(`/proc/${pid}/cmdline`)?.split('\0').slice(0, -1) ?? [];
}

/** Whether a process is suspended, as by Ctrl-Z. */
export function isSuspended({ pid }: ProcessId): boolean {
  return statOf(pid).state === 'T';
}

/** Whether a process is of the group to which its terminal belongs; also if it has no terminal. */
export function isForeground(pid: number): boolean {
  const { group, terminalGroup } = statOf(pid);
  return terminalGroup === group || terminalGroup === '-1';
}

/** Clock ticks per second in /proc; it does not depend on the kernel's own clock. */
export const TICKS_PER_SECOND = 100;

/**
 * The fields of /proc/PID/stat from the third one on (proc(5)); none without a text. The second, the name of the
 * command, is in brackets and may have any characters, also brackets.
 */
export function statFields(stat: string | null): string[] {
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
}

/** Fields 3, 4, 5, 8 and 22 of /proc/PID/stat, where there is such a file. */
function statOf(pid: number) {
  const [state, parent, group, , , terminalGroup, ...others] = statFields(textOrNull(`/proc/${pid}/stat`));
  return { state, parent, group, terminalGroup, started: others[13] };
}
