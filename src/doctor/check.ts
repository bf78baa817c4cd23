/** The checks of `orchestrator doctor`: their results, and what they share. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';

/** One line of the output. */
export interface Check {
  /** Stable name, such as "addon", which is a key of the JSON output. */
  name: string;
  /** `note` is neither good nor bad. `failed` means that training cannot run, and makes the exit code 1. */
  status: 'ok' | 'note' | 'warning' | 'failed';
  detail: string;
  /** The remedy, as a command or a sentence; null if nothing has to be done. */
  fix: string | null;
}

export function ok(name: string, detail: string): Check {
  return { name, status: 'ok', detail, fix: null };
}

export function note(name: string, detail: string): Check {
  return { name, status: 'note', detail, fix: null };
}

export function warning(name: string, detail: string, fix: string): Check {
  return { name, status: 'warning', detail, fix };
}

export function failed(name: string, detail: string, fix: string): Check {
  return { name, status: 'failed', detail, fix };
}

export type Probe = SpawnSyncReturns<string>;

/** Runs a script that loads the addon in a process of its own: a bad binary or driver may crash it. */
export function probe(script: string, addon: string): Probe {
  return spawnSync(process.execPath, ['-e', script, addon], { encoding: 'utf8', timeout: 60_000 });
}
