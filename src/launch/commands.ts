/** The commands that a run consists of. `launch` starts them; anybody else may, too. */

/** Any free port of this machine alone. */
export const LOOPBACK = '127.0.0.1:0';

export interface LaunchOptions {
  /** All nodes of a local run are this machine. */
  nodes: number;
  workersPerNode: number;
  device: 'cpu' | 'cuda';
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
  /** The worker's rank among those of its node, and how many they are; as torchrun names them. */
  localRank: 'LOCAL_RANK',
  localWorldSize: 'LOCAL_WORLD_SIZE',
  /** Where several nodes are one machine: the worker's place among all workers of the machine, which chooses its GPU. */
  gpu: 'ORCHESTRATOR_GPU',
} as const;

export function workersOf({ nodes, workersPerNode }: LaunchOptions): number {
  return nodes * workersPerNode;
}

/** What the environment of worker `index` of a local run adds to that of its launcher; secrets and addresses are not part of it. */
export function workerEnvironment(
  { nodes, workersPerNode, device }: LaunchOptions,
  index: number,
): Record<string, string> {
  return {
    [ENVIRONMENT.workerId]: workerId(index),
    [ENVIRONMENT.localRank]: String(index % workersPerNode),
    [ENVIRONMENT.localWorldSize]: String(workersPerNode),
    ...(nodes === 1 || device === 'cpu' ? {} : { [ENVIRONMENT.gpu]: String(index) }),
  };
}

export function coordinatorCommand(options: LaunchOptions): string[] {
  const sets = options.overrides.flatMap((override) => ['--set', override]);
  return [
    ...program(),
    'coordinator',
    options.configPath,
    '--workers',
    String(workersOf(options)),
    '--run-dir',
    options.runDir,
    '--resume',
    options.resume,
    '--listen',
    LOOPBACK,
    ...sets,
  ];
}

/**
 * Memory of V8 for a process through which gradients flow: received pieces die young and are freed by quick collections
 * (small semi-space), and their megabytes do not count as a reason to collect the whole heap (large initial old space). In
 * 13 exchanges of 64 MB between 4 workers, 334 collections of the whole heap became 5, and the processor time a third
 * (bench/exchange.mjs). Nothing is reserved by either.
 */
export const WORKER_OPTIONS = ['--max-semi-space-size=2', '--initial-old-space-size=128'];

export function workerCommand(): string[] {
  return [...program(WORKER_OPTIONS), 'worker'];
}

function workerId(index: number): string {
  return `local-${index}`;
}

/** This very program: the same Node.js, options and entry file. */
function program(nodeOptions: readonly string[] = []): string[] {
  return [process.execPath, ...process.execArgv, ...nodeOptions, process.argv[1]!];
}

/** As one types it into a POSIX shell. */
export function shellText(command: readonly string[]): string {
  const quote = (word: string) =>
    /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
  return command.map(quote).join(' ');
}
