/** The options of `launch` that name hosts: what they mean, and whether the hosts are fit for the run. */
import { type Config, slotCount } from '../config/schema.js';
import type { NetworkAddress } from '../coordinator/network-address.js';
import { OrchestratorError, refuse } from '../errors.js';
import { canonicalJson } from '../files/json.js';
import { type Asked, type HostQuestions, judgeHosts } from '../launch/check-hosts.js';
import {
  destinationOf,
  type HostEntry,
  isHere,
  nameOf,
  PORT_ELSEWHERE,
  parseHosts,
  readHostfile,
} from '../launch/hosts.js';
import { ownAddress } from '../launch/own-address.js';
import type { Preflight } from '../launch/preflight.js';
import { type RunHost, thisMachine } from '../launch/processes.js';
import { native } from '../native/load.js';
import { hostInAddress } from '../rpc/address.js';
import { counted } from '../text/quantities.js';
import { networkOf, workersPerNode } from './options.js';
import { printNote } from './output.js';

export interface HostFlags {
  nodes: { max: number };
  nprocPerNode?: number;
  hosts?: string;
  hostfile?: string;
  remoteDir?: string;
  listen?: string;
  advertise?: string;
  port?: number;
}

/**
 * The hosts of a run, and how many workers one has where nothing else is said.
 *
 * @throws OrchestratorError ERR_USAGE
 */
export async function hostsOf(
  flags: HostFlags,
  config: Config,
): Promise<{ hosts: RunHost[]; perNode: number }> {
  const { nodes, nprocPerNode, hosts, hostfile, remoteDir, listen, port } = flags;
  if (hosts === undefined && hostfile === undefined) {
    if (port !== undefined && listen === undefined)
      throw usage('--port needs --listen, --hosts or --hostfile');
    if (remoteDir !== undefined) throw usage('--remote-dir needs --hosts or --hostfile');
    const perNode = await workersPerNode(native(), config, {
      nodes: nodes.max,
      ...(nprocPerNode === undefined ? {} : { nprocPerNode }),
    });
    return { hosts: Array.from({ length: nodes.max }, () => thisMachine(perNode)), perNode };
  }
  const entries = entriesOf(flags);
  if (nodes.max > 1) {
    const more = `${nameOf(entries[0]!)}:2 in --hosts, slots=2 in a hostfile, or --nproc-per-node 2 for all`;
    const hint = `Leave --nodes out. Several workers on a host: ${more}; how many must be left: --min-workers`;
    throw usage('--nodes with --hosts: the hosts are the nodes of the run', hint);
  }
  const unknown = entries.find(({ workers }) => workers === null);
  if (config.device === 'cuda' && nprocPerNode === undefined && unknown !== undefined) {
    throw usage(`How many GPUs ${nameOf(unknown)} has is not said: add :N or slots=N, or --nproc-per-node N`);
  }
  if (hosts !== undefined) refusePorts(entries, config);
  const perNode = nprocPerNode ?? 1;
  return { hosts: entries.map((entry) => runHost(entry, perNode, remoteDir ?? process.cwd())), perNode };
}

/** More workers on one host of `--hosts` than the run can have may be the port of its ssh server. */
function refusePorts(entries: readonly HostEntry[], config: Config): void {
  const slots = slotCount(config);
  for (const entry of entries) {
    const { workers } = entry;
    if (workers === null || workers <= slots) continue;
    const name = nameOf(entry);
    const message = `--hosts: ${name}:${workers} means ${workers} workers, and the run has ${counted(slots, 'slot')}`;
    throw usage(message, `Use at most ${counted(slots, 'worker')}. ${PORT_ELSEWHERE}`);
  }
}

function entriesOf({ hosts, hostfile }: Pick<HostFlags, 'hosts' | 'hostfile'>): HostEntry[] {
  if (hosts !== undefined && hostfile !== undefined) throw usage('Either --hosts or --hostfile, not both');
  const entries = hosts === undefined ? readHostfile(hostfile!) : parseHosts(hosts);
  const here = entries.filter((entry) => isHere(entry)).map(nameOf);
  if (here.length > 1)
    throw usage(`${here.join(' and ')} are both this machine; say how many workers it has`);
  return entries;
}

/** The hosts that `doctor` is to look at; this machine is among them, because the coordinator would be here. */
export function hostsToExamine(flags: Pick<HostFlags, 'hosts' | 'hostfile' | 'remoteDir'>): RunHost[] {
  const hosts = entriesOf(flags).map((entry) => runHost(entry, 1, flags.remoteDir ?? process.cwd()));
  return hosts.some(({ ssh }) => ssh === null) ? hosts : [thisMachine(0), ...hosts];
}

function runHost(entry: HostEntry, perNode: number, folder: string): RunHost {
  const workers = entry.workers ?? perNode;
  if (isHere(entry)) return thisMachine(workers, entry.data);
  return {
    name: nameOf(entry),
    ssh: { destination: destinationOf(entry), port: entry.port },
    workers,
    folder: entry.folder ?? folder,
    data: entry.data,
  };
}

/**
 * Where the coordinator of a run on several hosts listens: as it is said, or at this machine's address for them.
 * `unknown` is the problem where that address is not known: the network is none then, and hosts may say more of it.
 */
export async function networkOfHosts(
  hosts: readonly RunHost[],
  { listen, advertise, port = 0 }: Pick<HostFlags, 'listen' | 'advertise' | 'port'>,
): Promise<{ network: NetworkAddress; unknown: OrchestratorError | null }> {
  const network = (address: string) => networkOf(address, advertise)!;
  if (listen !== undefined) return { network: network(listen), unknown: null };
  const { address, unknown } = await addressFor(hosts);
  return { network: network(`${hostInAddress(address ?? '127.0.0.1')}:${port}`), unknown };
}

/** Under which address these hosts reach this machine, or why it is not known. */
async function addressFor(hosts: readonly RunHost[]) {
  try {
    return { address: await ownAddress(hosts), unknown: null };
  } catch (error) {
    if (error instanceof OrchestratorError) return { address: null, unknown: error };
    throw error;
  }
}

/**
 * Asks all hosts, and refuses those that are not fit.
 *
 * @param questions The hosts.
 * @param unknown Why it is not known under which address they reach this machine; null: it is.
 * @returns The instruction sets that all have where some have others, and all that is to be warned of.
 * @throws OrchestratorError ERR_HOST, with a problem for each host.
 */
export async function refuseUnfit(
  questions: HostQuestions,
  { resolved, figures, warnings: known }: Pick<Preflight, 'resolved' | 'figures' | 'warnings'>,
  unknown: OrchestratorError | null,
): Promise<{ instructionSets: readonly string[] | null; warnings: string[] }> {
  const segment = resolved.segments.at(-1) ?? null;
  const request = { config: canonicalJson(resolved.config), plan: segment?.version ?? null };
  const asked = await questions.ask(request);
  const needs = {
    isa: resolved.isa,
    dataset: segment?.datasetHash ?? null,
    workerBytes: Math.max(...figures.rankLeast),
  };
  const { problems, warnings: found, isas } = judgeHosts(asked, needs);
  const warnings = [...known, ...found];
  refuseLaunch([...problems, ...(await addressProblems(asked, unknown, problems.length > 0))], warnings);
  return { instructionSets: isas, warnings };
}

/** Throws the problems. Then there is no run that would tell of the warnings, so they are printed before. */
export function refuseLaunch(problems: readonly OrchestratorError[], warnings: readonly string[]): void {
  if (problems.length > 0) for (const warning of warnings) printNote(`warn ${warning}`);
  refuse(problems);
}

/** What remains of a problem of addresses where hosts that cannot be reached may be its cause. */
async function addressProblems(
  asked: readonly Asked[],
  unknown: OrchestratorError | null,
  isExplained: boolean,
): Promise<OrchestratorError[]> {
  if (unknown === null || !isExplained) return unknown === null ? [] : [unknown];
  const able = asked.filter(
    ({ host, answer }) => host.ssh !== null && !(answer instanceof OrchestratorError),
  );
  if (able.length === 0) return [];
  const problem = (await addressFor(able.map(({ host }) => host))).unknown;
  return problem === null ? [] : [problem];
}

function usage(message: string, hint: string | null = null): OrchestratorError {
  return new OrchestratorError('ERR_USAGE', message, hint);
}
