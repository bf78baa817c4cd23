/**
 * The commands and environment variables of a run's processes, which `launch` starts and --dry-run prints.
 */

/** Any free port on loopback. */
export const LOOPBACK = '127.0.0.1:0';

/** A run on this machine. */
export interface LaunchOptions {
  /** Nodes of the run; all of them are this machine. */
  nodes: number;
  workersPerNode: number;
  device: 'cpu' | 'cuda';
  configPath: string;
  runDir: string;
  /** "auto", "never" or a path. */
  resume: string;
  /** Values of --set. */
  overrides: readonly string[];
}

/** Environment variables that connect the processes of a run. Secrets are never on a command line. */
export const ENVIRONMENT = {
  token: 'ORCHESTRATOR_TOKEN',
  coordinator: 'ORCHESTRATOR_COORDINATOR',
  workerId: 'ORCHESTRATOR_WORKER_ID',
  /** The worker's rank on its node, named as in torchrun. */
  localRank: 'LOCAL_RANK',
  /** The number of workers on the node, named as in torchrun. */
  localWorldSize: 'LOCAL_WORLD_SIZE',
  /** Where several nodes are one machine: the index of the worker on the machine, which selects its GPU. */
  gpu: 'ORCHESTRATOR_GPU',
} as const;

/** Number of workers of a run. */
export function workersOf({ nodes, workersPerNode }: LaunchOptions): number {
  return nodes * workersPerNode;
}

/**
 * Variables that worker `index` gets in addition to the launcher's environment, without token and address.
 */
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
 * V8 memory options of a process that receives gradients. With a small semi-space, short-lived received
 * pieces are freed by quick collections; with a large initial old space, their megabytes do not trigger
 * collections of the whole heap. In 13 exchanges of 64 MB between 4 workers, whole-heap collections dropped
 * from 334 to 5, and the processor time to a third (`npm run bench -- --only exchange`). Neither option
 * reserves memory.
 */
export const WORKER_OPTIONS = ['--max-semi-space-size=2', '--initial-old-space-size=128'];

export function workerCommand(): string[] {
  return [...program(WORKER_OPTIONS), 'worker'];
}

function workerId(index: number): string {
  return `local-${index}`;
}

/** The command of this program: the same Node.js, options and entry file. */
function program(nodeOptions: readonly string[] = []): string[] {
  return [process.execPath, ...process.execArgv, ...nodeOptions, process.argv[1]!];
}

/** A command as text for a POSIX shell. */
export function shellText(command: readonly string[]): string {
  const quote = (word: string) =>
    /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
  return command.map(quote).join(' ');
}
