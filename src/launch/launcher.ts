/** The ways in which a run's workers are started. The coordinator always runs beside `launch`. */
import type { ProcessEnd } from '../signals.js';
import type { Child } from './children.js';
import { local } from './local.js';
import type { ProcessSpec } from './processes.js';
import { ssh } from './ssh.js';

/** Starts processes; when, and what follows from their end, is decided in `kept-workers.ts`. */
export interface Launcher {
  /** Starts a process, or a local one that stands for it. Its input is written by the caller; its output is piped. */
  start(spec: ProcessSpec): Promise<Child>;
  /** The same as a person would type it, who then types the input. */
  shellLine(spec: ProcessSpec): string;
  /**
   * Whether the process has ended if the one that `start` has started ended so. Otherwise nobody knows: only the
   * coordinator hears of it.
   */
  hasEnded(spec: ProcessSpec, ended: ProcessEnd): boolean;
  /**
   * Whether a line that the process has printed tells that its host cannot be reached, so that it was not started.
   *
   * @param before An earlier line that has told so; null: none has.
   */
  saysUnreachable(spec: ProcessSpec, line: string, before: string | null): boolean;
  /** Whether a line tells that the connection to its host is lost, so that it may live. */
  saysLost(spec: ProcessSpec, line: string): boolean;
}

export const LAUNCHERS = { local, ssh } satisfies Record<string, Launcher>;
