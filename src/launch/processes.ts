/** The processes of a run: what is started, where, and with which environment. */
import type { NetworkAddress } from '../coordinator/network-address.js';

/** A run on this machine. */
export interface LaunchOptions {
  /** Nodes of the run; all of them are this machine. */
  nodes: number;
  workersPerNode: number;
  /** The run goes on with so many workers. */
  minWorkers: number;
  /** How often each worker that has died is started again within ten minutes. */
  maxRestarts: number;
  device: 'cpu' | 'cuda';
  configPath: string;
  runDir: string;
  /** "auto", "never" or a path. */
  resume: string;
  /** Whether the run may go on with a data set that was corrected or extended. */
  allowDataChange?: boolean;
  /** Values of --set. */
  overrides: readonly string[];
  /** Where workers of other machines may join; null: the run is for this machine alone. */
  network: NetworkAddress | null;
  /** File for Prometheus' discovery; null: none. */
  prometheusTargets: string | null;
}

/** One process of a run. What it reads from its standard input may be a secret, and is not part of it. */
export interface ProcessSpec {
  /** "coordinator", "worker 1" */
  name: string;
  host: string;
  command: readonly string[];
  /** Variables in addition to the launcher's environment. */
  environment: Readonly<Record<string, string>>;
}

/** Variables of the environment of a run's processes. Secrets are never there, nor on a command line. */
export const ENVIRONMENT = {
  /** The name under which a worker joins the run. */
  workerId: 'ORCHESTRATOR_WORKER_ID',
  /** The worker's rank on its node, named as in torchrun. */
  localRank: 'LOCAL_RANK',
  /** The number of workers on the node, named as in torchrun. */
  localWorldSize: 'LOCAL_WORLD_SIZE',
  /** Where several nodes are one machine: the index of the worker on the machine, which selects its GPU. */
  gpu: 'ORCHESTRATOR_GPU',
} as const;

/**
 * V8 memory options of a process that receives gradients. With a small semi-space, short-lived received
 * pieces are freed by quick collections; with a large initial old space, their megabytes do not trigger
 * collections of the whole heap. In 13 exchanges of 64 MB between 4 workers, whole-heap collections dropped
 * from 334 to 5, and the processor time to a third (`npm run bench -- --only exchange`). Neither option
 * reserves memory.
 */
export const WORKER_OPTIONS = ['--max-semi-space-size=2', '--initial-old-space-size=128'];

/**
 * A process of a run takes SIGUSR1 as a request to stop (`signals.ts`). Before its first statement Node.js
 * would open its debugger, so it is told an address where it cannot listen (RFC 5737). Its own option
 * --disable-sigusr1 blocks the signal for good (22.23, 24.21): no listener ever hears of it.
 */
const NO_DEBUGGER = '--inspect-port=192.0.2.1:0';

export function workersOf({ nodes, workersPerNode }: LaunchOptions): number {
  return nodes * workersPerNode;
}

export function coordinatorProcess(run: LaunchOptions): ProcessSpec {
  const { configPath, runDir, resume, allowDataChange = false, overrides, network, prometheusTargets } = run;
  const options = {
    '--workers': String(workersOf(run)),
    '--run-dir': runDir,
    '--resume': resume,
    ...(network === null ? {} : { '--listen': network.listen, '--advertise': network.advertise }),
    ...(run.minWorkers === 1 ? {} : { '--min-workers': String(run.minWorkers) }),
    ...(prometheusTargets === null ? {} : { '--prometheus-targets': prometheusTargets }),
  };
  const flags = allowDataChange ? ['--allow-data-change'] : [];
  const sets = overrides.flatMap((override) => ['--set', override]);
  return {
    name: 'coordinator',
    host: 'localhost',
    command: [...program(), 'coordinator', configPath, ...Object.entries(options).flat(), ...flags, ...sets],
    environment: {},
  };
}

/** The process of worker `index` of a run. It reads its credential from its standard input. */
export function workerProcess(run: LaunchOptions, index: number): ProcessSpec {
  const { nodes, workersPerNode, device } = run;
  return {
    name: `worker ${index}`,
    host: 'localhost',
    command: [...program(WORKER_OPTIONS), 'worker', '--credential', '-'],
    environment: {
      [ENVIRONMENT.workerId]: `local-${index}`,
      [ENVIRONMENT.localRank]: String(index % workersPerNode),
      [ENVIRONMENT.localWorldSize]: String(workersPerNode),
      ...(nodes === 1 || device === 'cpu' ? {} : { [ENVIRONMENT.gpu]: String(index) }),
    },
  };
}

/** The command of this program: the same Node.js, options and entry file. */
export function program(nodeOptions: readonly string[] = []): string[] {
  const options = [
    ...process.execArgv.filter((option) => option !== NO_DEBUGGER),
    NO_DEBUGGER,
    ...nodeOptions,
  ];
  return [process.execPath, ...options, process.argv[1]!];
}
