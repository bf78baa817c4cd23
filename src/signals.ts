/** The signals that stop a run, their exit codes, and how a process ended. */
import { EXIT } from './errors.js';

/** The exit code of a run that a signal stopped: 128 + the number of the signal, as in shells. */
export const SIGNAL_EXIT = { SIGHUP: 129, SIGINT: 130, SIGUSR1: 138, SIGUSR2: 140, SIGTERM: 143 } as const;
export type StopSignal = keyof typeof SIGNAL_EXIT;

/** "1": SIGHUP is ignored, as under nohup. Node.js does not know that any more, so `orchestrator` says it. */
const NOHUP = 'ORCHESTRATOR_NOHUP';

/**
 * From now on the signals that stop a run call `stop`, every time they come, instead of the function that
 * took them before. In between they are never without a listener, which would end the process.
 */
export function onStopSignals(stop: (signal: StopSignal) => void): void {
  for (const signal of Object.keys(SIGNAL_EXIT) as StopSignal[]) {
    const before = process.rawListeners(signal) as NodeJS.SignalsListener[];
    const ignored = signal === 'SIGHUP' && process.env[NOHUP] === '1';
    process.on(signal, ignored ? () => {} : () => stop(signal));
    for (const listener of before) process.off(signal, listener);
  }
}

/** Why a run stops: "interrupted", "received SIGTERM". */
export function stopReason(signal: StopSignal): string {
  return signal === 'SIGINT' ? 'interrupted' : `received ${signal}`;
}

/** What a run says that stopped before its first step. */
export function stoppedEarly(reason: string): string {
  return `${reason}: stopped before the first step; there is nothing to save`;
}

/** Ends this process of a run that has not begun. */
export function stopEarly(signal: StopSignal): never {
  process.stderr.write(`${stoppedEarly(stopReason(signal))}\n`);
  process.exit(SIGNAL_EXIT[signal]);
}

/** The end of a process, as Node.js reports it. Both are null where nobody knows how it has ended. */
export interface ProcessEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** The same, with what the launcher knows of it. */
export interface Exit extends ProcessEnd {
  /** Whether the kernel is known to have killed a process of the run for lack of memory. */
  outOfMemory: boolean;
}

const CRASHES: ReadonlySet<string> = new Set(['SIGSEGV', 'SIGBUS', 'SIGABRT', 'SIGILL', 'SIGFPE']);

/**
 * "was killed by SIGKILL at step 9 (out of memory?)"; `where` is "" or " at step 9".
 *
 * @param isSeen Whether the process itself was seen to end, and not only a connection to its host.
 */
export function describeExit({ code, signal, outOfMemory }: Exit, where = '', isSeen = true): string {
  if (code === null && signal === null && !isSeen) {
    return `is lost${where}; whether its process has ended is not known`;
  }
  if (code === EXIT.hung) {
    const why = 'a kernel, a copy of the state or the event loop stood still';
    return `hung${where} and was ended by its watchdog: ${why} (exit code ${code})`;
  }
  if (signal === null) return code === null ? `has ended${where}` : `ended with exit code ${code}${where}`;
  if (CRASHES.has(signal)) return `crashed with ${signal}${where}`;
  const memory = outOfMemory ? ' (out of memory)' : ' (out of memory?)';
  return `was killed by ${signal}${where}${signal === 'SIGKILL' ? memory : ''}`;
}

/** The exit code of a run of which a process ended by a signal that stops runs; otherwise null. */
export function stopCodeOf({ code, signal }: ProcessEnd): number | null {
  if (signal !== null) return Object.hasOwn(SIGNAL_EXIT, signal) ? SIGNAL_EXIT[signal as StopSignal] : null;
  return isStopCode(code) ? code : null;
}

export function isStopCode(code: number | null): code is number {
  return (Object.values(SIGNAL_EXIT) as (number | null)[]).includes(code);
}

/** The name of the signal to which an exit code of SIGNAL_EXIT belongs. */
export function signalOfCode(code: number): string {
  return Object.entries(SIGNAL_EXIT).find(([, exit]) => exit === code)?.[0] ?? 'a signal to stop';
}
