/** The commands that a run consists of. `launch` starts them; anybody else may, too. */

/** Any free port of this machine alone. */
export const LOOPBACK = '127.0.0.1:0';

export interface LaunchPlan {
  nodes: number;
  configPath: string;
  runDir: string;
  /** "auto", "never" or a path. */
  resume: string;
  /** --set texts. */
  overrides: readonly string[];
}

/** Environment variables by which processes of a run find each other; secrets are never on a command line. */
export const ENVIRONMENT = {
  token: 'ORCHESTRATOR_TOKEN',
  coordinator: 'ORCHESTRATOR_COORDINATOR',
  workerId: 'ORCHESTRATOR_WORKER_ID',
} as const;

export function coordinatorCommand(plan: LaunchPlan): string[] {
  const sets = plan.overrides.flatMap((override) => ['--set', override]);
  return [
    ...program(),
    'coordinator',
    plan.configPath,
    '--nodes',
    String(plan.nodes),
    '--run-dir',
    plan.runDir,
    '--resume',
    plan.resume,
    '--listen',
    LOOPBACK,
    ...sets,
  ];
}

/**
 * A small young generation: received pieces of the gradient die young, and are freed at every quick collection instead of
 * piling up until V8 collects the whole heap (116 of those in 20 exchanges of 64 MB became 2; bench/exchange.mjs).
 */
const WORKER_OPTIONS = ['--max-semi-space-size=1'];

export function workerCommand(): string[] {
  return [...program(WORKER_OPTIONS), 'worker'];
}

export function workerId(index: number): string {
  return `local-${index}`;
}

/** This very program: the same Node.js, options and entry file. */
function program(options: readonly string[] = []): string[] {
  return [process.execPath, ...process.execArgv, ...options, process.argv[1] as string];
}

/** As one types it into a POSIX shell. */
export function shellText(command: readonly string[]): string {
  const quote = (word: string) =>
    /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
  return command.map(quote).join(' ');
}
