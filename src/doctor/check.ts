/** One line of `orchestrator doctor`. */
export interface Check {
  /** Stable name, such as "addon": keys of the JSON output. */
  name: string;
  /** `failed` makes the exit code 1: training cannot run. */
  status: 'ok' | 'warning' | 'failed';
  detail: string;
  /** What mends it, as a command or a sentence; null where nothing has to be done. */
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
