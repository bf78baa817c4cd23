/**
 * Hosts of a test: network namespaces of this machine, joined by a switch of their own or by a relay that takes
 * its time. They need root.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from './folders.js';
import { needs } from './needs.js';
import { relayProgram } from './relay.js';

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

/** Why nothing can happen to their network here; null: it can. */
export function noFaultsOfNetwork(): string | null {
  const missing = noHosts() ?? needs('nft') ?? needs('tc');
  if (missing !== null) return missing;
  const probe = [
    '-c',
    'nft add table inet probe && tc qdisc add dev lo root tbf rate 1gbit burst 1mb latency 50ms',
  ];
  const { status } = spawnSync('unshare', ['--net', 'sh', ...probe], { stdio: 'ignore' });
  return status === 0 ? null : 'needs a kernel with nf_tables and tbf';
}

/** Where `ip netns` has their names. */
const NAMESPACES = '/run/netns';
/** The network device of every host. */
const DEVICE = 'orch';

function ip(...words: string[]): void {
  execFileSync('ip', words, { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** Removes the hosts of tests that were killed before they could. */
function removeLeftOver(): void {
  const names = existsSync(NAMESPACES) ? readdirSync(NAMESPACES) : [];
  for (const name of names) {
    const [, pid] = /^orch-(\d+)-/.exec(name) ?? [];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) spawnSync('ip', ['netns', 'del', name]);
  }
}

/** So many hosts were made in this process. */
let made = 0;

/** Up to four hosts, 10.77.0.1 and following, of which the first is 1. */
export class TestHosts {
  readonly #names: string[];
  readonly #switch: string;
  #relay: ChildProcess | null = null;

  private constructor(count: number) {
    const set = `orch-${process.pid}-${++made}`;
    this.#names = Array.from({ length: count }, (_, index) => `${set}-${index + 1}`);
    this.#switch = `${set}-switch`;
  }

  #add(): void {
    removeLeftOver();
    for (const name of this.#names) {
      ip('netns', 'add', name);
      ip('-n', name, 'link', 'set', 'lo', 'up');
    }
  }

  /** Joins them by a switch. */
  static switched(count = 2): TestHosts {
    const hosts = new TestHosts(count);
    try {
      hosts.#add();
      hosts.#joinBySwitch();
      return hosts;
    } catch (error) {
      hosts.remove();
      throw error;
    }
  }

  #joinBySwitch(): void {
    const inSwitch = ['-n', this.#switch];
    ip('netns', 'add', this.#switch);
    ip(...inSwitch, 'link', 'add', 'bridge', 'up', 'type', 'bridge');
    for (const [index, name] of this.#names.entries()) {
      const port = `port${index + 1}`;
      ip(
        ...['link', 'add', DEVICE, 'netns', name],
        ...['type', 'veth', 'peer', 'name', port, 'netns', this.#switch],
      );
      ip(...inSwitch, 'link', 'set', port, 'up', 'master', 'bridge');
      this.#configure(index);
    }
  }

  /**
   * Joins them by a program that passes on every packet later, in their order.
   *
   * @param delayMs How long each takes.
   * @param jitterMs And up to so much longer, at random.
   * @param mtu The largest packet in bytes.
   */
  static async relayed(count: number, delayMs: number, jitterMs: number, mtu = 1500): Promise<TestHosts> {
    const hosts = new TestHosts(count);
    try {
      hosts.#add();
      await hosts.#joinByRelay(delayMs, jitterMs, mtu);
      return hosts;
    } catch (error) {
      hosts.remove();
      throw error;
    }
  }

  async #joinByRelay(delayMs: number, jitterMs: number, mtu: number): Promise<void> {
    const words = [DEVICE, String(delayMs * 1000), String(jitterMs * 1000), ...this.#names];
    const relay = spawn(relayProgram(temporaryFolder()), words, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#relay = relay;
    // It says when the devices are there.
    await Promise.race([
      once(relay.stdout, 'data'),
      once(relay, 'exit').then(() => Promise.reject(new Error('the relay has ended'))),
    ]);
    for (const [index, name] of this.#names.entries()) {
      ip('-n', name, 'link', 'set', DEVICE, 'mtu', String(mtu), 'txqueuelen', '10000');
      this.#configure(index);
    }
  }

  #configure(index: number): void {
    const inside = ['-n', this.#names[index]!];
    ip(...inside, 'addr', 'add', `${this.address(index + 1)}/24`, 'dev', DEVICE);
    ip(...inside, 'link', 'set', DEVICE, 'up');
  }

  address(host: number): string {
    return `10.77.0.${host}`;
  }

  /**
   * What to put before a command so that it runs on a host.
   *
   * @param hidden A folder that is empty there.
   */
  on(host: number, hidden: string | null = null): string[] {
    const inNetwork = ['ip', 'netns', 'exec', this.#names[host - 1]!];
    if (hidden === null) return inNetwork;
    // In its own view of the file system.
    return ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none "$0" && exec "$@"', hidden, ...inNetwork];
  }

  #run(host: number, file: string, ...words: string[]): void {
    const [ip, ...before] = this.on(host);
    execFileSync(ip!, [...before, file, ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
  }

  /** What a host drops of the packets that arrive there. */
  #drop(host: number, rule: string): void {
    const chain = 'add chain inet faults input { type filter hook input priority 0; }';
    const rules = [
      'add table inet faults',
      chain,
      `add rule inet faults input iifname ${DEVICE} ${rule} drop`,
    ];
    this.#run(host, 'nft', rules.join('; '));
  }

  /** Nothing that one host sends reaches the other any more; the other direction is as it was. */
  cutOneWay(from: number, to: number): void {
    this.#drop(to, `ip saddr ${this.address(from)}`);
  }

  /** Nothing passes between two hosts any more. */
  cut(one: number, other: number): void {
    this.cutOneWay(one, other);
    this.cutOneWay(other, one);
  }

  /** A firewall of the host drops what asks for a connection with it, except by ssh; the host connects to others. */
  closePorts(host: number): void {
    this.#drop(host, 'tcp flags & (syn | ack) == syn tcp dport != 22');
  }

  /** So many of a hundred packets that arrive at a host are lost. */
  lose(host: number, percent: number): void {
    this.#drop(host, `numgen random mod 100 < ${percent}`);
  }

  /** Everything that is not lost arrives again. */
  mend(): void {
    for (const host of this.#names.keys()) {
      this.#run(host + 1, 'nft', 'add table inet faults; delete table inet faults');
    }
  }

  /** Limits what each host sends and receives, in megabits a second; null: no longer. */
  limitRate(megabits: number | null): void {
    const inside = this.#names.map((name) => ['-n', name, 'qdisc', 'replace', 'dev', DEVICE]);
    const ports = this.#names.map((_, i) => ['-n', this.#switch, 'qdisc', 'replace', 'dev', `port${i + 1}`]);
    const limit = ['tbf', 'rate', `${megabits}mbit`, 'burst', '64kb', 'latency', '50ms'];
    for (const device of [...inside, ...ports]) {
      execFileSync('tc', [...device, 'root', ...(megabits === null ? ['pfifo'] : limit)], {
        stdio: 'inherit',
      });
    }
  }

  /** The bytes that a host has received. */
  received(host: number): number {
    const words = ['-n', this.#names[host - 1]!, '-j', '-s', 'link', 'show', DEVICE];
    const [device] = JSON.parse(execFileSync('ip', words, { encoding: 'utf8' })) as [
      { stats64: { rx: { bytes: number } } },
    ];
    return device.stats64.rx.bytes;
  }

  /** A host loses its power: no process of it tells anybody that it has ended. */
  vanish(host: number): void {
    ip('-n', this.#names[host - 1]!, 'link', 'set', DEVICE, 'down');
    this.#kill(this.#names[host - 1]!);
  }

  /** It is there again, without processes. */
  appear(host: number): void {
    ip('-n', this.#names[host - 1]!, 'link', 'set', DEVICE, 'up');
  }

  #kill(name: string): void {
    const pids = execFileSync('ip', ['netns', 'pids', name], { encoding: 'utf8' })
      .split('\n')
      .filter(Boolean);
    for (const pid of pids) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    }
  }

  /** What still runs on them ends. Those that are not there are passed over. */
  remove(): void {
    this.#relay?.kill('SIGKILL');
    for (const name of [...this.#names, this.#switch]) {
      if (!existsSync(join(NAMESPACES, name))) continue;
      this.#kill(name);
      ip('netns', 'del', name);
    }
  }
}
