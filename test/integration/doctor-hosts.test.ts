/** `doctor --hosts` over a real ssh server, and hosts with a full disk and with a clock that is off. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ExaminedHosts } from '../../src/launch/examine-hosts.js';
import { temporaryFolder } from '../support/folders.js';
import { noHosts, TestHosts } from '../support/hosts.js';
import { ends, launch, TRAINING, type Whence } from '../support/launched.js';
import { unmountable } from '../support/mountable.js';
import { because, needs } from '../support/needs.js';
import { MAIN } from '../support/program.js';
import { TestSshd } from '../support/sshd.js';

const B = '10.77.0.2';
/** The port of a server whose clock is an hour ahead. */
const AHEAD = 2223;
const reason = noHosts() ?? needs('sshd') ?? needs('ssh') ?? needs('faketime') ?? unmountable;

describe.skipIf(reason)(because('hosts side by side', reason), () => {
  const folder = temporaryFolder();
  const full = join(folder, 'full');
  const onFullDisk = `dir=${full} data=${resolve('test/fixtures/huggingface/fixed')}`;
  let hosts: TestHosts;
  let sshd: TestSshd;
  let here: Whence;
  beforeAll(async () => {
    mkdirSync(full);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', full]);
    symlinkSync(resolve('orchestrator'), join(full, 'orchestrator'));
    hosts = TestHosts.switched();
    sshd = new TestSshd(join(folder, 'ssh'));
    here = { before: hosts.on(1), env: { PATH: sshd.path } };
    const library = execFileSync('faketime', ['-f', '+1h', 'printenv', 'LD_PRELOAD'], { encoding: 'utf8' });
    const clock = { FAKETIME: '+1h', FAKETIME_DONT_FAKE_MONOTONIC: '1', LD_PRELOAD: library.trim() };
    await sshd.serve(hosts.on(2), 22);
    await sshd.serve(hosts.on(2), AHEAD, clock);
  });
  afterAll(() => {
    sshd?.close();
    hosts?.remove();
    execFileSync('umount', [full]);
  });

  function doctor(...words: string[]) {
    const [file, ...before] = [...hosts.on(1), process.execPath, MAIN, 'doctor', ...words] as [
      string,
      ...string[],
    ];
    const env = { ...process.env, PATH: sshd.path };
    return spawnSync(file, before, { encoding: 'utf8', env, timeout: 300_000 });
  }

  const found = ({ stdout, stderr }: { stdout: string; stderr: string }) => {
    expect(stderr).toBe('');
    return JSON.parse(stdout) as {
      hosts: Record<string, unknown>[];
      links: { from: string; to: string; address: string; result: Record<string, number | string> }[];
    } & Pick<ExaminedHosts, 'problems' | 'warnings'>;
  };

  test('two that are alike reach each other', () => {
    const ended = doctor('--hosts', B, '--config', TRAINING, '--json');
    const { hosts, links, problems, warnings } = found(ended);
    expect({ problems, warnings, status: ended.status }).toEqual({ problems: [], warnings: [], status: 0 });
    expect(hosts.map(({ host, reached }) => [host, reached])).toEqual([
      ['localhost', true],
      [B, true],
    ]);
    const [first, second] = hosts;
    for (const key of ['version', 'node', 'arithmetic', 'dataset']) expect(second![key]).toEqual(first![key]);
    expect(first).toMatchObject({ dataset: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(links.map(({ from, to, address }) => [from, to, address.split(':')[0]])).toEqual([
      ['localhost', B, B],
      [B, 'localhost', '10.77.0.1'],
    ]);
    for (const { result } of links) {
      expect(result.round_trip_seconds).toBeGreaterThan(0);
      expect(result.bytes_per_second).toBeGreaterThan(0);
    }
  });

  test('what is wrong with each is a line that names it, and so is who does not reach whom', () => {
    const hostfile = join(folder, 'hosts');
    const other = join(folder, 'other-data');
    mkdirSync(other);
    const lines = [`${B}:1`, `${B}:${AHEAD}`, `${B} ${onFullDisk}`, `root@${B} data=${other}`];
    writeFileSync(hostfile, lines.join('\n'));
    // Host 2 gets no connection to the port of this machine.
    const [ip, ...words] = [
      ...hosts.on(2),
      'ip',
      'rule',
      'add',
      'to',
      '10.77.0.1',
      'ipproto',
      'tcp',
      'dport',
      '7000',
      'prohibit',
    ];
    execFileSync(ip!, words);
    const { status, stdout } = doctor('--hostfile', hostfile, '--config', TRAINING, '--port', '7000');
    expect(status).toBe(1);
    const says = (line: RegExp) => expect(stdout).toMatch(new RegExp(`^${line.source}`, 'm'));
    says(/failed {3}10\.77\.0\.2:1 cannot be reached by ssh: .*Connection refused/);
    says(/warning {2}10\.77\.0\.2:2223: its clock is 1 h ahead of that of this machine$/);
    says(/failed {3}10\.77\.0\.2: its disk: .* free in .*full/);
    says(/failed {3}root@10\.77\.0\.2: .*other-data is not a data set/);
    says(/localhost <- 10\.77\.0\.2:2223 +10\.77\.0\.2:7002 +[\d.]+ ms +about [\d.]+ MB\/s$/);
    says(/10\.77\.0\.2:2223 <- localhost +10\.77\.0\.1:7000 +not reached$/);
    says(/failed {3}10\.77\.0\.2:2223: it does not reach localhost at 10\.77\.0\.1:7000: /);
    says(/not ready: 6 problems$/);
  });

  test('a host whose disk is full and one whose clock is off are told before the first step', async () => {
    const hostfile = join(folder, 'run-hosts');
    writeFileSync(hostfile, ['localhost', `${B}:${AHEAD}`, `${B} ${onFullDisk}`].join('\n'));
    const runDir = join(folder, 'run');
    const { output } = await ends(launch(runDir, here, '--hostfile', hostfile), 1);
    expect(output.match(/^(error|warn) .*/gm)).toEqual([
      expect.stringMatching(/^warn 10\.77\.0\.2:2223: its clock is 1 h ahead of that of this machine$/),
      expect.stringMatching(/^error ERR_HOST: 10\.77\.0\.2: its disk: .* free in .*full/),
    ]);
    expect(existsSync(runDir)).toBe(false);
  });
});
