/** The hosts of a run as users write them: `--hosts a,b:2`, and DeepSpeed's hostfile. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { OrchestratorError } from '../errors.js';
import { readFailure } from '../files/io.js';
import { MOST_WORKERS } from '../rpc/protocol.js';
import { printable } from '../text/printable.js';

/** A host as it is written. What is null was left out. */
export interface HostEntry {
  user: string | null;
  /** A name, an alias of ssh, or an address; IPv6 without brackets. */
  host: string;
  /** Port of its ssh server. */
  port: number | null;
  workers: number | null;
  /** Its folder in which the command runs. */
  folder: string | null;
  /** Where it has the data set. */
  data: string | null;
}

// Neither a user nor a host begins with "-": ssh would take it for an option.
const NAME = String.raw`(?:(\w[\w.+-]*)@)?(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(\w[\w.-]*))`;
const IN_LIST = new RegExp(`^${NAME}(?::(\\d{1,4}))?$`);
const IN_FILE = new RegExp(`^${NAME}(?::(\\d{1,5}))?$`);
const MAX_FILE_BYTES = 2 ** 20;

export const PORT_ELSEWHERE =
  'HOST:N is a number of workers; the port of its ssh server goes into a hostfile, as USER@HOST:PORT';

const NOTHING = { user: null, port: null, workers: null, folder: null, data: null };

/** @throws OrchestratorError ERR_USAGE */
export function parseHosts(text: string): HostEntry[] {
  const entries = text.split(',').map((part) => {
    const [whole, user, address, name, workers] = IN_LIST.exec(part.trim()) ?? [];
    if (whole === undefined) {
      const expected = 'HOST, USER@HOST or HOST:WORKERS, an IPv6 address in brackets';
      const hint = /:\d+$/.test(part) ? PORT_ELSEWHERE : null;
      throw usage(`--hosts: expected ${expected}, received "${part.trim()}"`, hint);
    }
    const entry = { ...NOTHING, user: user ?? null, host: (address ?? name)! };
    return { ...entry, workers: workers === undefined ? null : countOf(workers, '--hosts', PORT_ELSEWHERE) };
  });
  return withoutTwins(entries, () => '--hosts');
}

/**
 * The hosts of a hostfile. A line is `HOST`, `HOST slots=N`, as in DeepSpeed, with `USER@` before and the port of its
 * ssh server behind the host, and with `dir=` and `data=` where folders differ; # begins a comment.
 *
 * @param path for messages.
 * @throws OrchestratorError ERR_USAGE
 */
export function parseHostfile(text: string, path: string): HostEntry[] {
  const lines: number[] = [];
  const entries = text.split('\n').flatMap((line, index) => {
    const words = line.replace(/#.*/, '').trim().split(/\s+/);
    if (words[0] === '') return [];
    lines.push(index + 1);
    return [entryOf(words, `${path}:${index + 1}`)];
  });
  if (entries.length === 0) throw usage(`${path} names no host`);
  return withoutTwins(entries, (index) => `${path}:${lines[index]}`);
}

export function readHostfile(path: string): HostEntry[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw readFailure('read', path, error);
  }
  if (text.length > MAX_FILE_BYTES) throw usage(`${path} is too large for a hostfile`);
  return parseHostfile(text, path);
}

function entryOf([place, ...settings]: string[], where: string): HostEntry {
  const [whole, user, address, name, port] = IN_FILE.exec(place!) ?? [];
  if (whole === undefined || Number(port ?? 1) < 1 || Number(port ?? 1) > 65_535) {
    const expected = 'HOST, USER@HOST or HOST:PORT of its ssh server, an IPv6 address in brackets';
    throw usage(`${where}: expected ${expected}, received "${place}"`);
  }
  const entry: HostEntry = {
    ...NOTHING,
    user: user ?? null,
    host: (address ?? name)!,
    port: port === undefined ? null : Number(port),
  };
  for (const setting of settings) {
    const [, key, value] = /^(slots|dir|data)=(.+)$/.exec(setting) ?? [];
    if (key === 'slots') entry.workers = countOf(value!, where);
    else if (key === 'dir') entry.folder = value!;
    else if (key === 'data') entry.data = value!;
    else throw usage(`${where}: expected slots=N, dir=FOLDER or data=FOLDER, received "${setting}"`);
  }
  return entry;
}

function countOf(text: string, where: string, hint: string | null = null): number {
  const count = Number(text);
  if (/^\d{1,4}$/.test(text) && count >= 1 && count <= MOST_WORKERS) return count;
  throw usage(`${where}: expected 1 to ${MOST_WORKERS} workers, received "${text}"`, hint);
}

/** A host that is named twice is a slip more often than a wish, and its workers would get each other's ports. */
function withoutTwins(entries: HostEntry[], where: (index: number) => string): HostEntry[] {
  const known = new Set<string>();
  for (const [index, entry] of entries.entries()) {
    const name = nameOf(entry);
    if (known.has(name)) throw usage(`${where(index)}: ${name} is named twice; say how many workers it has`);
    known.add(name);
  }
  return entries;
}

/** "node1", "root@10.0.0.2:2222", "[fe80::1]:2222" */
export function nameOf({ user, host, port }: HostEntry): string {
  const bracketed = host.includes(':') ? `[${host}]` : host;
  return `${destinationOf({ user, host: port === null ? host : bracketed })}${port === null ? '' : `:${port}`}`;
}

/** How ssh names it. */
export function destinationOf({ user, host }: Pick<HostEntry, 'user' | 'host'>): string {
  return user === null ? host : `${user}@${host}`;
}

/** Whether it is this machine, where no ssh is needed; one with a user or a port is reached as it is written. */
export function isHere({ user, host, port }: HostEntry, own = hostname()): boolean {
  const names = ['localhost', '127.0.0.1', '::1', own, own.split('.')[0]];
  return user === null && port === null && names.includes(host);
}

function usage(message: string, hint: string | null = null): OrchestratorError {
  return new OrchestratorError('ERR_USAGE', printable(message), hint);
}
