/**
 * SIGINT and SIGTERM of a run's processes: the first asks for an orderly stop, the second ends the process.
 */
import { EXIT } from './errors.js';

/** The exit code of a process that a signal stopped. */
export const SIGNAL_EXIT = { SIGINT: EXIT.interrupted, SIGTERM: EXIT.preempted } as const;
export type StopSignal = keyof typeof SIGNAL_EXIT;

/** Calls `stop` for the first signal; the second exits. Returns a function that removes the handlers. */
export function onStopSignals(stop: (signal: StopSignal) => void): () => void {
  let stopping = false;
  const handlers = (['SIGINT', 'SIGTERM'] as const).map((signal) => ({
    signal,
    handler: () => {
      if (stopping) process.exit(SIGNAL_EXIT[signal]);
      stopping = true;
      stop(signal);
    },
  }));
  for (const { signal, handler } of handlers) process.on(signal, handler);
  return () => {
    for (const { signal, handler } of handlers) process.off(signal, handler);
  };
}
