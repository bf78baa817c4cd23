/** Asks all hosts of a run what they have, and says what is wrong with each, before anything is started there. */

import { OrchestratorError } from '../errors.js';
import { reasonOf } from '../files/io.js';
import { jsonOrNull } from '../files/json.js';
import { commonIsas } from '../native/isa.js';
import { PROTOCOL } from '../rpc/protocol.js';
import { lacksIsa, slowerIsa } from '../rule/arithmetic.js';
import type { ProcessEnd } from '../signals.js';
import { printable } from '../text/printable.js';
import { bytes, counted, timeSpan } from '../text/quantities.js';
import { shellText } from '../text/shell.js';
import { build, version } from '../version.js';
import { type Child, isRunning, signalGroup, startChild } from './children.js';
import {
  type HostReport,
  type HostRequest,
  type HostVersion,
  hostReport,
  hostReportSchema,
  hostVersionSchema,
} from './host-report.js';
import { programElsewhere, type RunHost } from './processes.js';
import { commandFor, failedItself, portOption } from './ssh.js';

/** Reading the data set may take its time. */
const ANSWER_MS = 600_000;
const MOST_OUTPUT = 65_536;
/** Clocks that differ by more make times in logs and tokens hard to understand. */
const CLOCK_MS = 60_000;
/** Certificates are valid from a day before they are issued. */
const CERTIFICATE_MS = 86_400_000;

const WHO_COMPUTES = 'Leave out one of the two: the bits would depend on who computes what';

const SAME = 'Check out the same commit on both machines, and run npm run setup on each';
const NO_SSH = 'Workers of other hosts are started with ssh: install it here, or put it on PATH';
const OTHER_DATA =
  'Copy the data set of the run there, or say where that machine has it: data=FOLDER in a hostfile';
const FEWER = 'Start fewer workers there: HOST:N in --hosts, slots=N in a hostfile';
const SMALLER = 'Leave this host out, or use a smaller model or batch.micro';

interface HostNeeds {
  /** The identity of the run's data set; null: it is not known. */
  dataset: string | null;
  /** The instruction set of the run; null: it begins, or computes on GPUs. */
  isa: string | null;
  /** The least memory of one worker. */
  workerBytes: number;
}

/** A host and what it has answered, or why it has not. */
export interface Asked {
  host: RunHost;
  answer: HostReport | OrchestratorError;
  /** When it came, by the clock of this machine. */
  receivedMs: number;
}

/** What is asked of every host. */
type Question = Omit<HostRequest, 'data' | 'workers' | 'probe'> & { probe?: boolean };

/** Hosts that are asked at the same time. The connections to them are made at once, before the question is known. */
export class HostQuestions {
  readonly #hosts: readonly { host: RunHost; report: ReportCommand | null }[];

  constructor(hosts: readonly RunHost[], environment: Readonly<Record<string, string>>) {
    this.#hosts = hosts.map((host) => {
      if (host.ssh === null) return { host, report: null };
      const command = commandFor({ host, command: [programElsewhere(), 'host-report'], environment });
      return { host, report: new ReportCommand(command) };
    });
  }

  async ask(question: Question): Promise<Asked[]> {
    return await Promise.all(
      this.#hosts.map(async ({ host, report }) => {
        const { data, workers } = host;
        const answer = await answerOf(host, report, { probe: false, ...question, data, workers });
        return { host, answer, receivedMs: Date.now() };
      }),
    );
  }

  /** Nothing is asked any more. */
  close(): void {
    for (const { report } of this.#hosts) report?.end();
  }
}

async function answerOf(
  host: RunHost,
  report: ReportCommand | null,
  request: HostRequest,
): Promise<HostReport | OrchestratorError> {
  if (report === null) return await hostReport(request);
  try {
    const { ended, output, errors } = await report.answer(`${JSON.stringify(request)}\n`);
    const said = jsonOf(output);
    const known = hostReportSchema.safeParse(said);
    if (known.success) return known.data;
    // Between versions a report may have another form.
    const versions = hostVersionSchema.safeParse(said);
    const another = versions.success ? otherVersion(host, versions.data) : null;
    return another ?? silence(host, ended, errors || output);
  } catch (error) {
    const message = `${host.name} cannot be reached: the command ssh of this machine: ${reasonOf(error)}`;
    return new OrchestratorError('ERR_HOST', message, NO_SSH);
  }
}

/** The problem of a host with another version of this program; null: it has this one. */
function otherVersion({ name }: RunHost, theirs: HostVersion): OrchestratorError | null {
  const own = { version: version(), protocol: PROTOCOL, build: build() };
  if (isSameVersion(theirs)) return null;
  const [its, ours] = [theirs, own].map(
    ({ version, protocol, build }) => `version ${version} (protocol ${protocol}, build ${build})`,
  );
  const message = `${name}: it has ${its} of this program, and this machine ${ours}`;
  return new OrchestratorError('ERR_HOST', message, SAME);
}

export function isSameVersion(theirs: HostVersion): boolean {
  return theirs.version === version() && theirs.protocol === PROTOCOL && theirs.build === build();
}

interface Ran {
  ended: ProcessEnd;
  output: string;
  errors: string;
}

/** A command that runs on another host, and waits for its input. */
class ReportCommand {
  readonly #command: readonly string[];
  #started: Promise<Child>;
  #child: Child | null = null;
  #isOver = false;
  #texts = ['', ''];
  readonly #kill = () => this.end();

  constructor(command: readonly string[]) {
    this.#command = command;
    this.#started = this.#start();
    // That there is no ssh is told when it is asked.
    this.#started.catch(() => {});
    process.once('exit', this.#kill);
  }

  async #start(): Promise<Child> {
    const texts = ['', ''];
    this.#texts = texts;
    const child = await startChild(this.#command[0]!, this.#command, {}, ['pipe', 'pipe', 'pipe'], null);
    this.#child = child;
    if (this.#isOver) this.end();
    for (const [index, stream] of [child.process.stdout, child.process.stderr].entries()) {
      stream!.setEncoding('utf8');
      stream!.on('data', (text: string) => {
        texts[index] = (texts[index] + text).slice(0, MOST_OUTPUT);
      });
    }
    return child;
  }

  /** The connection may have ended since it was made: until it is asked, this machine may read a whole data set. */
  async #running(): Promise<Child> {
    const child = await this.#started;
    if (isRunning(child)) return child;
    this.#started = this.#start();
    return await this.#started;
  }

  /**
   * What it prints, as soon as its report is there: until it has ended, and ssh with it, takes some round trips more.
   * One that does not end is ended in time.
   */
  async answer(input: string): Promise<Ran> {
    const timer = setTimeout(this.#kill, ANSWER_MS).unref();
    const child = await this.#running();
    void child.exited.then(() => {
      this.#child = null;
      clearTimeout(timer);
      process.off('exit', this.#kill);
    });
    child.process.stdin!.end(input);
    const ended = await Promise.race([child.exited, this.#reports(child)]);
    return { ended, output: this.#texts[0]!, errors: this.#texts[1]! };
  }

  /** Resolves when a report was printed, as if it had ended then. */
  #reports({ process: child }: Child): Promise<ProcessEnd> {
    return new Promise((resolve) => {
      child.stdout!.on('data', (text: string) => {
        const isWhole = text.endsWith('\n') && hostReportSchema.safeParse(jsonOf(this.#texts[0]!)).success;
        if (isWhole) resolve({ code: 0, signal: null });
      });
    });
  }

  end(): void {
    this.#isOver = true;
    process.off('exit', this.#kill);
    if (this.#child !== null) signalGroup(this.#child, 'SIGKILL');
  }
}

/** Why a host gave no report. */
function silence({ name, ssh, folder }: RunHost, ended: ProcessEnd, text: string): OrchestratorError {
  const last = printable(sayingWhy(text.trim().split('\n')), 300);
  const how = ended.signal === null ? `exit code ${ended.code}` : ended.signal;
  const why = last === '' ? how : last;
  if (failedItself(ended)) {
    return new OrchestratorError('ERR_HOST', `${name} cannot be reached by ssh: ${why}`, sshHint(ssh!, text));
  }
  return new OrchestratorError(
    'ERR_HOST',
    `${name} cannot run this program in ${folder}: ${why}`,
    `It needs this version of the program, set up (npm run setup), at the same path, or in --remote-dir; ssh's shell must find node`,
  );
}

/** The last line of what a host has printed; of Node.js, which ends with its version, that with the error. */
function sayingWhy(lines: readonly string[]): string {
  const last = lines.at(-1) ?? '';
  const error = /^Node\.js v\d/.test(last) ? lines.find((line) => /^\w*Error\b.*:/.test(line)) : undefined;
  return error ?? last;
}

/** What to do where ssh does not get through, by what it says. */
function sshHint({ destination, port }: NonNullable<RunHost['ssh']>, text: string): string {
  const attempt = (...options: string[]) =>
    shellText(['ssh', ...options, ...portOption(port), destination, 'true']);
  if (/REMOTE HOST IDENTIFICATION HAS CHANGED/.test(text)) {
    const host = destination.replace(/^.*@/, '');
    const forget = shellText(['ssh-keygen', '-R', port === null ? host : `[${host}]:${port}`]);
    return `It shows another key than before. If it was set up again, remove the old key: ${forget}, then accept the new one: ${attempt()}`;
  }
  if (/^Host key verification failed/m.test(text)) {
    return `Its key is not known here: compare and accept it once by hand: ${attempt()}`;
  }
  return `This must work without a question: ${attempt('-o', 'BatchMode=yes')}`;
}

function jsonOf(text: string): unknown {
  // A login script may have printed something before.
  return jsonOrNull(text.trim().split('\n').at(-1)!);
}

interface Judgement {
  problems: OrchestratorError[];
  warnings: string[];
  /** The instruction sets that all have, the best first, where some would compute with others; null: all are alike. */
  isas: readonly string[] | null;
}

/** What is wrong with each host, and what they do not have in common. */
export function judgeHosts(asked: readonly Asked[], needs: HostNeeds): Judgement {
  const problems = asked.flatMap((one) => problemsOf(one, needs));
  const warnings = [...asked.flatMap(clockOf), ...otherAddons(asked)];
  const answers = asked.flatMap(({ host: { name, workers }, answer }) =>
    answer instanceof OrchestratorError || answer.problems.length > 0 || workers === 0
      ? []
      : [{ name, ...answer.arithmetic }],
  );
  const [first, ...others] = answers;
  if (first === undefined) return { problems, warnings, isas: null };
  for (const other of others) {
    for (const [key, what] of [
      ['kernels', 'kernels of version'],
      ['gpus', 'other GPUs or libraries:'],
    ] as const) {
      if (other[key] === first[key]) continue;
      const message = `${other.name} computes with ${what} ${other[key] || 'none'}, and ${first.name} with ${first[key] || 'none'}`;
      problems.push(new OrchestratorError('ERR_HOST', message, WHO_COMPUTES));
    }
    const alike = answers.find(({ isa, precision }) => isa === other.isa && precision === other.precision)!;
    if (other.probe === alike.probe) continue;
    const message = `${other.name} gets another result than ${alike.name} of the same computation with ${other.isa}`;
    problems.push(new OrchestratorError('ERR_HOST', message, WHO_COMPUTES));
  }
  if (first.gpus !== '') return { problems, warnings, isas: null };
  const isas = commonIsas(answers.map(({ isas }) => isas));
  const [common = null] = isas;
  const isa = needs.isa ?? common;
  for (const { name, isas } of needs.isa === null ? [] : answers) {
    if (!isas.includes(needs.isa!)) problems.push(lacksIsa('ERR_HOST', name, needs.isa!, isas, common));
  }
  if (answers.every((answer) => answer.isa === isa)) return { problems, warnings, isas: null };
  const list = answers.map(({ name, isa }) => `${name} ${isa}`).join(', ');
  if (isa === null) {
    const message = `The hosts have no instruction set in common: ${list}`;
    problems.push(new OrchestratorError('ERR_HOST', message, 'Leave out the hosts with other processors'));
  } else if (needs.isa === null) {
    warnings.push(`all workers compute with ${isa}, which every host has: ${list}`);
  } else warnings.push(slowerIsa(isa, list));
  return { problems, warnings, isas };
}

function problemsOf({ host, answer }: Asked, { dataset, workerBytes }: HostNeeds): OrchestratorError[] {
  if (answer instanceof OrchestratorError) return [answer];
  const { name, workers } = host;
  const problem = (message: string, hint: string | null = null) =>
    new OrchestratorError('ERR_HOST', `${name}: ${message}`, hint);
  const another = otherVersion(host, answer);
  if (another !== null) return [another];
  const found = answer.problems.map(({ message, hint }) =>
    problem(printable(message), hint === null ? null : printable(hint)),
  );
  if (dataset !== null && answer.dataset !== '' && answer.dataset !== dataset) {
    const message = `its data set is another one: its hash is ${answer.dataset}, the run's is ${dataset}`;
    found.push(problem(message, OTHER_DATA));
  }
  const need = workers * workerBytes;
  if (host.ssh !== null && need > answer.memoryBytes) {
    const has = `and it has ${bytes(answer.memoryBytes)}`;
    const message = `its ${counted(workers, 'worker')} need at least ${bytes(need)} of memory, ${has}`;
    found.push(problem(message, workers === 1 ? SMALLER : FEWER));
  }
  return found;
}

/** Compilers differ, so another addon is not wrong; but it may be that of other sources. */
function otherAddons(asked: readonly Asked[]): string[] {
  const known = asked.flatMap(({ host: { name, workers }, answer }) =>
    answer instanceof OrchestratorError || answer.addon === '' || workers === 0
      ? []
      : [{ name, addon: answer.addon }],
  );
  return known
    .filter(({ addon }) => addon !== known[0]!.addon)
    .map(
      ({ name }) =>
        `${name}: its native addon is another build than that of ${known[0]!.name}; unless their compilers differ, run npm run build:native on both`,
    );
}

function clockOf({ host: { name }, answer, receivedMs }: Asked): string[] {
  if (answer instanceof OrchestratorError) return [];
  const ms = answer.unixMs - receivedMs;
  if (Math.abs(ms) <= CLOCK_MS) return [];
  const off = `${timeSpan(Math.abs(ms) / 1000)} ${ms > 0 ? 'ahead of' : 'behind'} that of this machine`;
  const worse = ms < -CERTIFICATE_MS ? ': it will not believe the certificates of the run' : '';
  return [`${name}: its clock is ${off}${worse}`];
}
