/** All hosts side by side, as `doctor --hosts` shows them: what each has, who reaches whom, and what is wrong. */
import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { reasonOf } from '../files/io.js';
import { canonicalJson } from '../files/json.js';
import { PLAN_VERSION } from '../step/plan.js';
import { alignedRows } from '../text/columns.js';
import { bytes, counted, timeSpan } from '../text/quantities.js';
import { type Asked, HostQuestions, isSameVersion, judgeHosts } from './check-hosts.js';
import { type MeasuredLink, measureLinks, type PlacedHost, placed } from './check-links.js';
import type { HostReport } from './host-report.js';
import { ownAddress } from './own-address.js';
import type { RunHost } from './processes.js';

/** The time that an answer takes is not known: smaller differences of clocks are not shown. */
const CLOCK_SECONDS = 2;

interface ExaminedHost extends Partial<Omit<HostReport, 'arithmetic' | 'problems' | 'unixMs'>> {
  host: string;
  folder: string;
  /** Whether it has answered. */
  reached: boolean;
  arithmetic: HostReport['arithmetic'] | null;
  /** Its clock minus that of this machine, with the time that its answer took. */
  clockOffsetSeconds: number | null;
}

export interface ExaminedHosts {
  hosts: ExaminedHost[];
  links: MeasuredLink[];
  problems: { message: string; fix: string | null }[];
  warnings: string[];
}

interface ExamineOptions {
  /** The address of this machine for the hosts; null: that of its connections to them. */
  listen: string | null;
  /** The first port (`placed`); 0: any. */
  port: number;
  environment: Readonly<Record<string, string>>;
}

/**
 * @param hosts this machine among them.
 * @param config The configuration whose data set all must have; null: no data set is looked at.
 * @throws OrchestratorError ERR_USAGE where there are not so many ports.
 */
export async function examineHosts(
  hosts: readonly RunHost[],
  config: Config | null,
  options: ExamineOptions,
): Promise<ExaminedHosts> {
  const places = placed(hosts, options.port);
  const questions = new HostQuestions(hosts, options.environment);
  try {
    return await examineAsked(places, questions, config, options);
  } finally {
    // A host may have answered, and hang.
    questions.close();
  }
}

async function examineAsked(
  places: readonly PlacedHost[],
  questions: HostQuestions,
  config: Config | null,
  { listen, environment }: ExamineOptions,
): Promise<ExaminedHosts> {
  const request = { config: config === null ? null : canonicalJson(config), plan: PLAN_VERSION, probe: true };
  const asked = await questions.ask(request);
  const needs = { dataset: identityOf(asked), isa: null, workerBytes: 0 };
  const { problems, warnings } = judgeHosts(asked, needs);
  const able = places.filter((_, index) => isAble(asked[index]!));
  const connected = await linksOf(able, listen, environment);
  const all = [...problems, ...connected.problems, ...connected.links.flatMap(problemOf)];
  return {
    hosts: asked.map(examined),
    links: connected.links,
    problems: all.map(({ message, hint }) => ({ message, fix: hint })),
    warnings,
  };
}

/** Whether a host can take part in the test of connections, whose form is that of this version. */
function isAble({ answer }: Asked): boolean {
  return !(answer instanceof OrchestratorError) && isSameVersion(answer);
}

/** The connections between hosts. What is in the way of the test is a problem like those of the hosts. */
async function linksOf(
  able: readonly PlacedHost[],
  listen: string | null,
  environment: ExamineOptions['environment'],
): Promise<{ links: MeasuredLink[]; problems: OrchestratorError[] }> {
  if (able.length < 2) return { links: [], problems: [] };
  let address = listen;
  try {
    address ??= await ownAddress(able.map(({ host }) => host));
  } catch (error) {
    const hint = 'Say it with --listen ADDRESS, which is one of this machine (`ip addr` lists them)';
    return { links: [], problems: [new OrchestratorError('ERR_HOST', reasonOf(error), hint)] };
  }
  return await measureLinks(able, { address, environment });
}

/** The identity that all are compared with: that of this machine, or else of the first host that has a data set. */
function identityOf(asked: readonly Asked[]): string | null {
  const found = asked.map(({ host, answer }) => ({
    isHere: host.ssh === null,
    hash: answer instanceof OrchestratorError ? '' : answer.dataset,
  }));
  const known = found.filter(({ hash }) => hash !== '');
  return (known.find(({ isHere }) => isHere) ?? known[0])?.hash ?? null;
}

function problemOf({ from, to, address, result }: MeasuredLink): OrchestratorError[] {
  if (!('problem' in result)) return [];
  const message = `${from}: it does not reach ${to} at ${address}: ${result.problem}`;
  const hint = `Let ${from} through the firewall of ${to}, or give the ports with --port N; with several networks say the address with --listen, and in a run with --advertise`;
  return [new OrchestratorError('ERR_HOST', message, hint)];
}

function examined({ host: { name, folder }, answer, receivedMs }: Asked): ExaminedHost {
  const common = { host: name, folder };
  if (answer instanceof OrchestratorError) {
    return { ...common, reached: false, arithmetic: null, clockOffsetSeconds: null };
  }
  const { problems: _, unixMs, ...rest } = answer;
  return { ...common, reached: true, ...rest, clockOffsetSeconds: (unixMs - receivedMs) / 1000 };
}

const HEADINGS = [
  'host',
  'version',
  'Node.js',
  'instructions',
  'precision',
  'processors',
  'memory',
  'free disk',
];

/** The page of what was found. */
export function renderHosts({ hosts, links, problems, warnings }: ExaminedHosts): string {
  const withGpus = hosts.some(({ arithmetic }) => arithmetic?.gpus);
  const withData = hosts.some(({ dataset }) => dataset);
  const headings = [...HEADINGS, 'clock', ...(withData ? ['data set'] : []), ...(withGpus ? ['GPUs'] : [])];
  const rows = hosts.map((one) => {
    if (!one.reached) return [one.host, ...headings.slice(1).map(() => '-')];
    const { arithmetic, memoryBytes, diskFreeBytes, dataset = '' } = one;
    return [
      ...[
        one.host,
        `${one.version} (${one.build})`,
        one.node!,
        arithmetic!.isa || '-',
        arithmetic!.precision || '-',
      ],
      ...[String(one.processors), bytes(memoryBytes!), diskFreeBytes === null ? '-' : bytes(diskFreeBytes!)],
      clock(one.clockOffsetSeconds!),
      ...(withData ? [dataset.slice(0, 12) || '-'] : []),
      ...(withGpus ? [arithmetic!.gpus || '-'] : []),
    ];
  });
  const pairs = links.map(({ from, to, address, result }) =>
    'problem' in result
      ? [`${from} <- ${to}`, address, 'not reached', '']
      : [`${from} <- ${to}`, address, milliseconds(result.roundTripSeconds), rate(result.bytesPerSecond)],
  );
  const table =
    pairs.length === 0
      ? []
      : ['', ...alignedRows([['connection', 'to', 'round trip', 'bandwidth'], ...pairs])];
  const told = [
    ...warnings.map((warning) => `warning  ${warning}`),
    ...problems.flatMap(({ message, fix }) => [
      `failed   ${message}`,
      ...(fix === null ? [] : [`         -> ${fix}`]),
    ]),
  ];
  const sum = problems.length === 0 ? 'ready to train' : `not ready: ${counted(problems.length, 'problem')}`;
  const blank = told.length === 0 ? [] : [''];
  return `${[...alignedRows([headings, ...rows]), ...table, ...blank, ...told, sum].join('\n')}\n`;
}

function clock(seconds: number): string {
  if (Math.abs(seconds) < CLOCK_SECONDS) return 'same';
  return `${seconds > 0 ? '+' : '-'}${timeSpan(Math.abs(seconds))}`;
}

function milliseconds(seconds: number): string {
  return `${(1000 * seconds).toFixed(2)} ms`;
}

/** Half a second on a busy machine or network gives only the order of magnitude. */
function rate(bytesPerSecond: number): string {
  return `about ${Number((bytesPerSecond / 1e6).toPrecision(2))} MB/s`;
}
