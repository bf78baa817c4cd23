/** The result of one check of `orchestrator doctor`. */

/** One line of the output. */
export interface Check {
  /** Stable name, such as "addon", which is a key of the JSON output. */
  name: string;
  /** `failed` means that training cannot run, and makes the exit code 1. */
  status: 'ok' | 'warning' | 'failed';
  detail: string;
  /** The remedy, as a command or a sentence; null if nothing has to be done. */
  fix: string | null;
}

export function ok(name: string, detail: string): Check {
  return { name, status: 'ok', detail, fix: null };
}

export function warning(name: string, detail: string, fix: string): Check {
  return { name, status: 'warning', detail, fix };
}

export function failed(name: string, detail: string, fix: string): Check {
  return { name, status: 'failed', detail, fix };
}
