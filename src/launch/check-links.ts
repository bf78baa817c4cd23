/** Asks all hosts to connect to each other, as the workers of a run do: who is reached, how fast. */

import { isIP } from 'node:net';
import { createInterface } from 'node:readline';
import type { z } from 'zod';
import { OrchestratorError } from '../errors.js';
import { reasonOf } from '../files/io.js';
import { jsonOrNull } from '../files/json.js';
import { socketAddress } from '../rpc/address.js';
import { Authority } from '../security/authority.js';
import { printable } from '../text/printable.js';
import { type Child, signalGroup, startChild } from './children.js';
import {
  keySchema,
  listeningSchema,
  type Measured,
  measuredSchema,
  problemSchema,
  type Setup,
} from './link-probe.js';
import { program, programElsewhere, type RunHost } from './processes.js';
import { commandFor } from './ssh.js';

/** A host that says nothing for this long is given up. */
const ANSWER_MS = 60_000;
const MOST_OUTPUT = 65_536;
const HIGHEST_PORT = 65_535;

/** What came of the connection that `from` has made to `to`; the bytes came to `from`. */
export interface MeasuredLink {
  from: string;
  to: string;
  /** host:port that was tried. */
  address: string;
  result: Measured | { problem: string };
}

interface LinkOptions {
  /** The address of this machine for the hosts. */
  address: string;
  environment: Readonly<Record<string, string>>;
}

/** A host, and the port at which it listens; 0: any. */
export interface PlacedHost {
  host: RunHost;
  port: number;
}

/**
 * The ports that a run with `--port` takes: this machine the first one, for its coordinator, and each other host the
 * next one, for its first worker. Hosts that ssh reaches under the same name are one machine: each takes another port.
 *
 * @param first 0: all take any.
 * @throws OrchestratorError ERR_USAGE where there are not so many ports.
 */
export function placed(hosts: readonly RunHost[], first: number): PlacedHost[] {
  const known = new Map<string, number>();
  return hosts.map((host) => {
    if (host.ssh === null || first === 0) return { host, port: first };
    const machine = host.ssh.destination.split('@').at(-1)!;
    const port = (known.get(machine) ?? first) + 1;
    if (port > HIGHEST_PORT) {
      const message = `--port ${first} leaves no port for ${host.name}: the highest is ${HIGHEST_PORT}`;
      throw new OrchestratorError('ERR_USAGE', message);
    }
    known.set(machine, port);
    return { host, port };
  });
}

/**
 * Measures every ordered pair of hosts. In each round every host is at one connection that it has made and at one
 * that it has accepted.
 *
 * @param hosts that could be asked; this machine is among them, because the coordinator is there.
 * @returns the links, and what is wrong with hosts that cannot take part.
 */
export async function measureLinks(
  hosts: readonly PlacedHost[],
  options: LinkOptions,
): Promise<{ links: MeasuredLink[]; problems: OrchestratorError[] }> {
  const problems: OrchestratorError[] = [];
  const authority = await Authority.create();
  const started = await Promise.all(
    hosts.map(async (one) => {
      return await Prober.start(one, authority, options).catch((error) => {
        problems.push(new OrchestratorError('ERR_HOST', `${one.host.name}: ${reasonOf(error)}`, PROBE_HINT));
        return null;
      });
    }),
  );
  const probers = started.filter((prober) => prober !== null);
  const links: MeasuredLink[] = [];
  try {
    for (let distance = 1; distance < probers.length; distance++) {
      const round = probers.map((from, index) => from.probe(probers[(index + distance) % probers.length]!));
      links.push(...(await Promise.all(round)));
    }
  } finally {
    for (const prober of probers) prober.close();
  }
  return { links, problems };
}

const PROBE_HINT = 'Its part in the test of connections could not be done';

/** A host's `host-link` process. */
class Prober {
  readonly host: RunHost;
  address = '';
  readonly #child: Child;
  readonly #lines: AsyncIterator<string>;
  #errors = '';
  /** Bytes that have come since it was last waited for an answer. */
  #unread = 0;

  private constructor(host: RunHost, child: Child) {
    this.host = host;
    this.#child = child;
    child.process.stdout!.on('data', ({ length }: Buffer) => {
      this.#unread += length;
      if (this.#unread > MOST_OUTPUT) this.close();
    });
    this.#lines = createInterface({ input: child.process.stdout! })[Symbol.asyncIterator]();
    child.process.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = (this.#errors + text).slice(-MOST_OUTPUT);
    });
  }

  /** Starts the process, gives it a certificate, and has it listen. */
  static async start(
    { host, port }: PlacedHost,
    authority: Authority,
    options: LinkOptions,
  ): Promise<Prober> {
    const words = [...(host.ssh === null ? program() : [programElsewhere()]), 'host-link'];
    const command = commandFor({ host, command: words, environment: options.environment });
    const child = await startChild(host.name, command, {}, ['pipe', 'pipe', 'pipe'], null);
    const prober = new Prober(host, child);
    try {
      const { publicKey } = await prober.#answer(keySchema);
      const id = host.name;
      const setup: Setup = {
        run: authority.run,
        id,
        certificate: await authority.issue({ role: 'worker', id }, Buffer.from(publicKey, 'base64')),
        authority: authority.stored.certificate,
        listen: host.ssh === null ? options.address : null,
        towards: options.address,
        port,
      };
      prober.#say(setup);
      const answer = await prober.#answer(listeningSchema.or(problemSchema));
      if ('problem' in answer) throw new Error(answer.problem);
      if (host.ssh !== null && !isSocketAddress(answer.address)) {
        throw new Error(`it says that it listens at ${answer.address}, which is no address`);
      }
      prober.address = answer.address;
      return prober;
    } catch (error) {
      prober.close();
      throw error;
    }
  }

  async probe(to: Prober): Promise<MeasuredLink> {
    const { address } = to;
    const ends = { from: this.host.name, to: to.host.name, address };
    try {
      this.#say({ id: to.host.name, address });
      return { ...ends, result: await this.#answer(measuredSchema.or(problemSchema)) };
    } catch (error) {
      return { ...ends, result: { problem: reasonOf(error) } };
    }
  }

  close(): void {
    this.#child.process.stdin!.end();
    signalGroup(this.#child, 'SIGKILL');
  }

  #say(line: object): void {
    this.#child.process.stdin!.write(`${JSON.stringify(line)}\n`);
  }

  /** The next line that is such an answer: a login script may print something. */
  async #answer<T extends z.ZodType>(schema: T): Promise<z.output<T>> {
    const timer = setTimeout(() => this.close(), ANSWER_MS);
    this.#unread = 0;
    try {
      for (;;) {
        const { value, done } = await this.#lines.next();
        if (done) throw new Error(this.#silence());
        const answer = schema.safeParse(jsonOrNull(value));
        if (answer.success) return answer.data;
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #silence(): string {
    if (this.#unread > MOST_OUTPUT) return 'it says more than an answer';
    const last = printable(this.#errors.trim().split('\n').at(-1) ?? '', 300);
    return last === '' ? 'its process has ended, or has not answered in time' : last;
  }
}

/** Whether others can be told to connect there: an address of the network layer, which no host looks up as a name. */
function isSocketAddress(text: string): boolean {
  try {
    const address = socketAddress(text);
    return 'host' in address && isIP(address.host) !== 0 && address.port > 0;
  } catch {
    return false;
  }
}
