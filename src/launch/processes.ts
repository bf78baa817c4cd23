/** The processes of a run: what is started, where, and with which environment. */
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExpectedWorker } from '../coordinator/events.js';
import type { NetworkAddress } from '../coordinator/network-address.js';
import type { ScreenForm } from '../telemetry/screen.js';

/** Where workers of a run are started, several of them side by side. */
export interface RunHost {
  /** By which messages name it: "localhost", "node1", "root@10.0.0.2:2222". */
  name: string;
  /** How ssh reaches it; null: it is this machine. */
  ssh: { destination: string; port: number | null } | null;
  workers: number;
  /** Its folder in which its workers run. */
  folder: string;
  /** Where it has the data set; null: where the configuration says. */
  data: string | null;
}

/** A run whose coordinator is on this machine. */
export interface LaunchOptions {
  /** Several of them may be this machine. */
  hosts: readonly RunHost[];
  /** The first port of the workers of each host; 0: they take any free ones. */
  workerPort: number;
  /** Variables of the environment of all workers, beside those that say which worker it is. */
  environment: Readonly<Record<string, string>>;
  /** The instruction sets that all workers have, the best first, where some have others; null: all are alike. */
  instructionSets: readonly string[] | null;
  /** The run goes on with so many workers. */
  minWorkers: number;
  /** How often each process that has died is started again within ten minutes. */
  maxRestarts: number;
  /** How long the run waits for workers that it needs, and its workers for a coordinator. */
  patienceSeconds: number;
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
  /** How the run is shown. */
  form: ScreenForm;
}

/** One process of a run. What it reads from its standard input may be a secret, and is not part of it. */
export interface ProcessSpec {
  /** "coordinator", "worker 1" */
  name: string;
  host: RunHost;
  command: readonly string[];
  /** Variables in addition to the environment that a process has there. */
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

/** `--patience`, unless another is given. */
export const PATIENCE_SECONDS = 600;

/** This machine, with so many workers. */
export function thisMachine(workers: number, data: string | null = null): RunHost {
  return { name: 'localhost', ssh: null, workers, folder: process.cwd(), data };
}

export function workersOf({ hosts }: Pick<LaunchOptions, 'hosts'>): number {
  return hosts.reduce((sum, { workers }) => sum + workers, 0);
}

/** The most workers that share the processors of a machine. */
export function mostTogether({ hosts }: Pick<LaunchOptions, 'hosts'>): number {
  return Math.max(workersHere({ hosts }), ...hosts.map(({ workers }) => workers));
}

/** The number of workers on this machine. */
export function workersHere({ hosts }: Pick<LaunchOptions, 'hosts'>): number {
  return workersOf({ hosts: hosts.filter(({ ssh }) => ssh === null) });
}

/** @param again Whether it takes the place of one that has died. */
export function coordinatorProcess(run: LaunchOptions, again = false): ProcessSpec {
  const { configPath, runDir, resume, allowDataChange = false, overrides, network, prometheusTargets } = run;
  const { instructionSets } = run;
  const options = {
    '--workers': String(workersOf(run)),
    '--run-dir': runDir,
    '--resume': resume,
    ...(network === null ? {} : { '--listen': network.listen, '--advertise': network.advertise }),
    ...(run.minWorkers === 1 ? {} : { '--min-workers': String(run.minWorkers) }),
    ...(run.patienceSeconds === PATIENCE_SECONDS ? {} : { '--patience': String(run.patienceSeconds) }),
    ...(instructionSets === null ? {} : { '--instruction-sets': instructionSets.join(',') }),
    ...(prometheusTargets === null ? {} : { '--prometheus-targets': prometheusTargets }),
  };
  const flags = [...(allowDataChange ? ['--allow-data-change'] : []), ...(again ? ['--again'] : [])];
  const sets = overrides.flatMap((override) => ['--set', override]);
  return {
    name: 'coordinator',
    host: thisMachine(0),
    command: [...program(), 'coordinator', configPath, ...Object.entries(options).flat(), ...flags, ...sets],
    environment: {},
  };
}

/** The process of worker `index` of a run. It reads its credential from its standard input. */
export function workerProcess(run: LaunchOptions, index: number): ProcessSpec {
  const { hosts, device, workerPort, network } = run;
  const { host, localRank } = placeOf(hosts, index);
  const { ssh, data } = host;
  const sharesGpus = device === 'cuda' && hosts.filter(({ ssh }) => ssh === null).length > 1;
  const port = network === null || workerPort === 0 ? [] : ['--port', String(workerPort + localRank)];
  return {
    name: `worker ${index}`,
    host,
    command: [
      ...(ssh === null ? program(WORKER_OPTIONS) : [programElsewhere()]),
      ...['worker', '--credential', '-'],
      ...port,
      ...(data === null ? [] : ['--data', data]),
    ],
    environment: {
      ...run.environment,
      [ENVIRONMENT.workerId]: `${ssh === null ? 'local' : host.name}-${index}`,
      [ENVIRONMENT.localRank]: String(localRank),
      [ENVIRONMENT.localWorldSize]: String(host.workers),
      ...(ssh === null && sharesGpus ? { [ENVIRONMENT.gpu]: String(index) } : {}),
    },
  };
}

/** The processes of all workers of the run, by number. */
export function workerProcesses(run: LaunchOptions): ProcessSpec[] {
  return Array.from({ length: workersOf(run) }, (_, index) => workerProcess(run, index));
}

/** The workers of the run as its coordinator knows them before they have joined. */
export function expectedWorkers(run: LaunchOptions): ExpectedWorker[] {
  return workerProcesses(run).map(({ name, host, environment }) => ({
    id: environment[ENVIRONMENT.workerId]!,
    name: nameWithHost(name, host),
    host: host.ssh === null ? hostname() : host.name,
  }));
}

/** "worker 1" of this machine, "worker 1 on b" of another. */
export function nameWithHost(name: string, host: RunHost): string {
  return host.ssh === null ? name : `${name} on ${host.name}`;
}

/** The host of worker `index`, and its number among that host's workers. */
function placeOf(hosts: readonly RunHost[], index: number): { host: RunHost; localRank: number } {
  let localRank = index;
  for (const host of hosts) {
    if (localRank < host.workers) return { host, localRank };
    localRank -= host.workers;
  }
  throw new RangeError(`worker ${index} has no host`);
}

/**
 * The command of this program on another host, which has the same folders: relative to the folder in which the
 * command runs if the program is in it. Where it was installed by npm, it is in the path.
 */
export function programElsewhere(): string {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  if (!existsSync(join(root, 'orchestrator'))) return 'orchestrator';
  const here = relative(process.cwd(), root);
  return here.startsWith('..') ? join(root, 'orchestrator') : `./${join(here, 'orchestrator')}`;
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
