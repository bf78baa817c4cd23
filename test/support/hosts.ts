/** Hosts of a test: network namespaces of this machine, joined by a cable. They need root. */
import { execFileSync, spawnSync } from 'node:child_process';
import { needs } from './needs.js';

/** Why there can be no such hosts here; null: there can. */
export function noHosts(): string | null {
  const missing = needs('ip') ?? needs('unshare');
  if (missing !== null) return missing;
  const name = `orch-${process.pid}-probe`;
  const { status } = spawnSync('ip', ['netns', 'add', name], { stdio: 'ignore' });
  if (status !== 0) return 'needs network namespaces, which root may make';
  ip('netns', 'del', name);
  return null;
}

function ip(...words: string[]): void {
  execFileSync('ip', words, { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** Two hosts, 10.77.0.1 and 10.77.0.2. */
export class TestHosts {
  readonly #names = [1, 2].map((number) => `orch-${process.pid}-${number}`);

  constructor() {
    const [first, second] = this.#names as [string, string];
    for (const name of this.#names) ip('netns', 'add', name);
    ip(
      ...['link', 'add', 'orch', 'netns', first],
      ...['type', 'veth', 'peer', 'name', 'orch', 'netns', second],
    );
    for (const [index, name] of this.#names.entries()) {
      ip('-n', name, 'link', 'set', 'lo', 'up');
      ip('-n', name, 'addr', 'add', `10.77.0.${index + 1}/24`, 'dev', 'orch');
      ip('-n', name, 'link', 'set', 'orch', 'up');
    }
  }

  /**
   * What to put before a command so that it runs on a host.
   *
   * @param hidden A folder that is empty there.
   */
  on(host: 1 | 2, hidden: string | null = null): string[] {
    const inNetwork = ['ip', 'netns', 'exec', this.#names[host - 1]!];
    if (hidden === null) return inNetwork;
    // In its own view of the file system.
    return ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none "$0" && exec "$@"', hidden, ...inNetwork];
  }

  remove(): void {
    for (const name of this.#names) ip('netns', 'del', name);
  }
}
