/** Faults of the network between three hosts: each run ends with the bits of an undisturbed one. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../support/folders.js';
import { FULL } from '../support/full.js';
import { noFaultsOfNetwork, TestHosts } from '../support/hosts.js';
import { childrenOf, commandOf, ends, fingerprint, Launched } from '../support/launched.js';
import { because, needs } from '../support/needs.js';
import { noRelay } from '../support/relay.js';
import { TestSshd } from '../support/sshd.js';
import { undisturbed } from '../support/undisturbed.js';

const STEPS = 24;
/** Megabits a second at which a step takes about half a second, nearly all of it for gradients. */
const SLOW = 100;
const reason = noFaultsOfNetwork() ?? needs('sshd') ?? needs('ssh');

let reference = '';
beforeAll(async () => {
  if (reason !== null) return;
  ({ runDir: reference } = await undisturbed());
});

/** The hosts of a test, of which the first coordinates, and one ssh server on each of the others. */
class Network {
  readonly hosts: TestHosts;
  readonly runDir: string;
  readonly #sshd: TestSshd;
  #options: string[] = [];

  constructor(hosts: TestHosts) {
    const folder = temporaryFolder();
    this.hosts = hosts;
    this.runDir = join(folder, 'run');
    mkdirSync(this.runDir);
    this.#sshd = new TestSshd(join(folder, 'ssh'));
  }

  serve(host: number): Promise<void> {
    return this.#sshd.serve(this.hosts.on(host, this.runDir), 22, {}, host);
  }

  async launch(count: number, ...more: string[]): Promise<Launched> {
    const others = Array.from({ length: count - 1 }, (_, index) => index + 2);
    await Promise.all(others.map((host) => this.serve(host)));
    const names = ['localhost', ...others.map((host) => this.hosts.address(host))];
    this.#options = ['--hosts', names.join(','), ...more];
    return this.launchAgain();
  }

  /** The same command. */
  launchAgain(): Launched {
    const whence = { before: this.hosts.on(1), env: { PATH: this.#sshd.path } };
    return new Launched(this.runDir, whence, ...this.#options);
  }

  close(): void {
    this.#sshd.close();
    this.hosts.remove();
  }
}

async function endsWithSameBits(run: Launched): Promise<void> {
  await ends(run.outcome, 0);
  expect(fingerprint(run.runDir, STEPS)).toEqual(fingerprint(reference, STEPS));
}

/** Milliseconds that connections from a host to an ssh server take, one after the other. */
function roundTrips(before: readonly string[], address: string): number[] {
  const script = `
    (async () => {
      for (let i = 0; i < 20; i++) {
        const started = performance.now();
        await new Promise((resolve) => require('net').connect(22, '${address}', resolve));
        console.log(performance.now() - started);
      }
      process.exit();
    })()`;
  const [file, ...words] = [...before, process.execPath, '-e', script];
  return execFileSync(file!, words, { encoding: 'utf8' }).trim().split('\n').map(Number);
}

describe.skipIf(reason)(because('three hosts on a switch', reason), () => {
  let network: Network;
  afterEach(() => network?.close());
  const make = (count: number) => {
    network = new Network(TestHosts.switched(count));
    return network;
  };

  /** Three hosts or more, whose run has made some steps, each of which takes its time. */
  const slowRun = async (count: number, ...more: string[]) => {
    const { hosts } = make(count);
    hosts.limitRate(SLOW);
    const run = await network.launch(count, ...more);
    await run.steps(2);
    return { hosts, run };
  };

  /** Waits until one host is in the middle of what a step brings it: 1 MB has come. */
  const inTransfer = async (hosts: TestHosts, run: Launched, host: number) => {
    const before = hosts.received(host);
    while (hosts.received(host) - before < 1e6) {
      if (run.process.exitCode !== null) throw new Error(`ended before a transfer:\n${run.output}`);
      await sleep(5);
    }
  };

  /** Waits until the third worker takes part again, which needs less time than the steps that are left. */
  const hasReturned = async (hosts: TestHosts, run: Launched) => {
    await run.says('the run continues after step');
    hosts.limitRate(SLOW / 10);
    while (run.workers().length < 3) {
      if (run.process.exitCode !== null) throw new Error(`ended without the third worker:\n${run.output}`);
      await sleep(20);
    }
    hosts.limitRate(null);
  };

  test('a link that is cut while a bucket travels', async () => {
    const { hosts, run } = await slowRun(3);
    await inTransfer(hosts, run, 3);
    hosts.cut(2, 3);
    await run.says('it has not answered for 3 s');
    hosts.mend();
    hosts.limitRate(null);
    await endsWithSameBits(run);
    expect(run.output).toMatch(/The exchange with rank \d broke at step \d+: it has not answered for 3 s/);
    expect(run.output).toContain('All workers live, so they connect to each other again');
  });

  test.runIf(FULL)('a link that stays cut', async () => {
    const { hosts, run } = await slowRun(3);
    hosts.cut(2, 3);
    await run.says('cannot exchange gradients with the others; 2 workers go on');
    hosts.limitRate(null);
    await endsWithSameBits(run);
    expect(run.output).toMatch(
      /Cannot reach rank \d at 10\.77\.0\.\d:\d+: no answer within 2 s; a firewall may/,
    );
  });

  test.runIf(FULL)('a worker whose port a firewall closes: the others name it and go on', async () => {
    const { hosts } = make(3);
    hosts.closePorts(3);
    const run = await network.launch(3, '--max-restarts', '0');
    await endsWithSameBits(run);
    expect(run.output).toMatch(
      /Cannot reach rank 2 at 10\.77\.0\.3:\d+: no answer within 2 s; a firewall may drop what is sent to this port/,
    );
    expect(run.output).toMatch(
      /rank 2 \(pid \d+ on .*\) cannot exchange gradients with the others; 2 workers go on/,
    );
    expect(run.workers()).toHaveLength(2);
  });

  test.runIf(FULL)('a host whose packets do not reach another', async () => {
    const { hosts, run } = await slowRun(3);
    hosts.cutOneWay(3, 2);
    await run.says('it has not answered for 3 s');
    hosts.mend();
    hosts.limitRate(null);
    await endsWithSameBits(run);
  });

  test.runIf(FULL).each<[string, (hosts: TestHosts) => void]>([
    ['the coordinator does not hear it', (hosts) => hosts.cutOneWay(3, 1)],
    ['it does not hear the coordinator', (hosts) => hosts.cutOneWay(1, 3)],
    [
      'nobody hears it, and it hears nobody',
      (hosts) => {
        hosts.cut(1, 3);
        hosts.cut(2, 3);
      },
    ],
  ])('a host that is cut off, and comes back: %s', async (_, cut) => {
    const { hosts, run } = await slowRun(3);
    cut(hosts);
    await run.says('2 workers go on');
    hosts.mend();
    await hasReturned(hosts, run);
    await endsWithSameBits(run);
    expect(run.output).not.toContain('(start ');
  });

  test.runIf(FULL)('a host that cannot be told that the run stops, and is told when it goes on', async () => {
    const { hosts, run } = await slowRun(2);
    const pid = run.workers()[1]!;
    hosts.cut(1, 2);
    run.process.kill('SIGINT');
    const { output } = await ends(run.outcome, 130);
    expect(output).toContain(
      `10.77.0.2 could not be told that the run has ended: 1 worker there may run for up to 10 min (--patience), or until the same command starts the run again; to end it: ssh 10.77.0.2 kill ${pid}`,
    );
    hosts.mend();
    hosts.limitRate(SLOW / 10);
    const next = network.launchAgain();
    // It hears that it was left out, or comes to the next coordinator, which does not want it.
    while (commandOf(pid).length > 0) {
      if (next.process.exitCode !== null)
        throw new Error(`worker ${pid} has outlived the run:\n${next.output}`);
      await sleep(20);
    }
    hosts.limitRate(null);
    await endsWithSameBits(next);
    expect(next.output).not.toContain('could not be told');
  });

  test.runIf(FULL)('two links at once, of one host', async () => {
    const { hosts, run } = await slowRun(4);
    hosts.cut(2, 3);
    hosts.cut(3, 4);
    await run.says('cannot exchange gradients with the others; 3 workers go on');
    hosts.limitRate(null);
    expect(run.output).toMatch(/rank 2 .* cannot exchange gradients with the others/);
    await endsWithSameBits(run);
  });

  test.runIf(FULL)('two links at once, of four hosts', async () => {
    const { hosts, run } = await slowRun(4);
    hosts.cut(1, 2);
    hosts.cut(3, 4);
    await run.says('workers go on');
    hosts.limitRate(null);
    await endsWithSameBits(run);
  });

  test.runIf(FULL)('a host that vanishes without a word, and is there again later', async () => {
    const { hosts, run } = await slowRun(3);
    hosts.vanish(3);
    await run.says('2 workers go on');
    hosts.limitRate(SLOW / 10);
    // ssh would notice by itself within half a minute.
    const connections = childrenOf(run.process.pid!).filter((pid) => commandOf(pid)[0]?.endsWith('ssh'));
    const lost = connections.find((pid) => commandOf(pid).includes(hosts.address(3)));
    process.kill(lost!, 'SIGKILL');
    await run.says('10.77.0.3 cannot be reached to start worker 2: ssh: connect to host 10.77.0.3');
    hosts.appear(3);
    await network.serve(3);
    await hasReturned(hosts, run);
    await endsWithSameBits(run);
    expect(run.output.match(/cannot be reached/g)).toHaveLength(1);
    expect(run.output).not.toContain('(start ');
  });

  test.runIf(FULL)('a network that loses 5 of 100 packets', async () => {
    const { hosts } = make(3);
    for (const host of [1, 2, 3]) hosts.lose(host, 5);
    const run = await network.launch(3);
    await endsWithSameBits(run);
  });
});

describe.skipIf(reason ?? noRelay())(because('three hosts on a relay', reason ?? noRelay()), () => {
  test.runIf(FULL)('packets take 2 ms, and up to 50 ms more', async () => {
    const network = new Network(await TestHosts.relayed(3, 2, 50));
    try {
      const run = await network.launch(3);
      const trips = roundTrips(network.hosts.on(1), network.hosts.address(2));
      await endsWithSameBits(run);
      expect(Math.min(...trips)).toBeGreaterThan(4);
      expect(Math.max(...trips)).toBeGreaterThan(40);
    } finally {
      network.close();
    }
  });
});
