/** The ways in which a run's workers are started. The coordinator always runs beside `launch`. */
import type { Child } from './children.js';
import { local } from './local.js';
import type { ProcessSpec, Secrets } from './processes.js';

/** Starts processes; when, and what follows from their end, is decided in `supervise.ts`. */
export interface Launcher {
  /** Starts a process, or a local one that stands for it, with its output piped. */
  start(spec: ProcessSpec, secrets: Secrets): Promise<Child>;
  /** The same as a person would type it. */
  shellLine(spec: ProcessSpec, secrets: Secrets): string;
}

export const LAUNCHERS = { local } satisfies Record<string, Launcher>;
