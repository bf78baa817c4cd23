import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type HostFlags, hostsOf, networkOfHosts, refuseUnfit } from '../../../src/cli/launch-hosts.js';
import { loadConfig } from '../../../src/config/load.js';
import { slotCount } from '../../../src/config/schema.js';
import type { OrchestratorError } from '../../../src/errors.js';
import { canonicalJson } from '../../../src/files/json.js';
import { HostQuestions } from '../../../src/launch/check-hosts.js';
import { hostReport } from '../../../src/launch/host-report.js';
import { PORT_ELSEWHERE } from '../../../src/launch/hosts.js';
import type { Preflight } from '../../../src/launch/preflight.js';
import { coordinatorProcess, type LaunchOptions, workerProcess } from '../../../src/launch/processes.js';
import { PLAN_VERSION } from '../../../src/step/plan.js';
import { temporaryFolder } from '../../support/folders.js';
import { TRAINING } from '../../support/launched.js';
import { PretendedSsh } from '../../support/pretended-ssh.js';

const CONFIG = loadConfig(TRAINING);
const hosts = async (flags: Partial<HostFlags>, config = CONFIG) =>
  (await hostsOf({ nodes: { max: 1 }, ...flags }, config)).hosts;

test('hosts have the workers, the folder and the data that are said, and otherwise those of the command', async () => {
  const hostfile = join(temporaryFolder(), 'hosts');
  writeFileSync(hostfile, 'localhost slots=2\nb\nroot@c:2222 slots=3 dir=/opt/run data=/mnt\n');
  expect(await hosts({ hostfile, nprocPerNode: 4, remoteDir: '/srv' })).toEqual([
    { name: 'localhost', ssh: null, workers: 2, folder: process.cwd(), data: null },
    { name: 'b', ssh: { destination: 'b', port: null }, workers: 4, folder: '/srv', data: null },
    {
      name: 'root@c:2222',
      ssh: { destination: 'root@c', port: 2222 },
      ...{ workers: 3, folder: '/opt/run', data: '/mnt' },
    },
  ]);
  expect(await hosts({ nodes: { max: 2 }, nprocPerNode: 3 })).toMatchObject([{ workers: 3 }, { workers: 3 }]);
});

test.each<[string, Partial<HostFlags>, string]>([
  ['both', { hosts: 'a', hostfile: 'b' }, 'Either --hosts or --hostfile, not both'],
  ['nodes', { hosts: 'a', nodes: { max: 2 } }, '--nodes with --hosts'],
  ['a folder without hosts', { remoteDir: '/srv' }, '--remote-dir needs --hosts or --hostfile'],
  ['a port without a network', { port: 29_500 }, '--port needs --listen, --hosts or --hostfile'],
  ['this machine twice', { hosts: `localhost,${hostname()}` }, 'are both this machine'],
])('%s is refused', async (_, flags, message) => {
  await expect(hosts(flags)).rejects.toThrow(message);
});

test('who takes the hosts for nodes, or workers for a port, is told how to write it', async () => {
  await expect(hosts({ hosts: 'b', nodes: { max: 2 } })).rejects.toMatchObject({
    hint: expect.stringMatching(/^Leave --nodes out\. .*: b:2 in --hosts, .*--nproc-per-node 2 for all/),
  });
  const slots = slotCount(CONFIG);
  expect(await hosts({ hosts: `b:${slots}` })).toMatchObject([{ workers: slots }]);
  await expect(hosts({ hosts: 'a,b:2222' })).rejects.toMatchObject({
    message: `--hosts: b:2222 means 2222 workers, and the run has ${slots} slots`,
    hint: `Use at most ${slots} workers. ${PORT_ELSEWHERE}`,
  });
  // A port has up to five digits.
  for (const list of ['b:8022', 'b:22222']) {
    await expect(hosts({ hosts: list })).rejects.toMatchObject({ hint: PORT_ELSEWHERE });
  }
});

test('on GPUs the number of workers of a host must be said', async () => {
  const gpu = { ...CONFIG, device: 'cuda' as const };
  await expect(hosts({ hosts: 'a:2,b' }, gpu)).rejects.toThrow('How many GPUs b has is not said');
  expect(await hosts({ hosts: 'a:2,b', nprocPerNode: 8 }, gpu)).toMatchObject([
    { workers: 2 },
    { workers: 8 },
  ]);
});

test('an address for all of this machine is never told to hosts', async () => {
  const remote = await hosts({ hosts: 'a' });
  await expect(networkOfHosts(remote, { listen: '0.0.0.0:29500' })).rejects.toThrow(
    'nobody can connect to it',
  );
  expect(await networkOfHosts(remote, { listen: '0.0.0.0:29500', advertise: 'head' })).toEqual({
    network: { listen: '0.0.0.0:29500', advertise: 'head' },
    unknown: null,
  });
});

test('what the hosts have in common is what the run begins with, and not what its user has asked for', async () => {
  const ssh = new PretendedSsh();
  onTestFinished(() => ssh.close());
  const request = { config: canonicalJson(CONFIG), data: null, plan: PLAN_VERSION, workers: 1 };
  const report = await hostReport(request);
  const having = (name: string, ...isas: string[]) => {
    const answer = { ...report, arithmetic: { ...report.arithmetic, isa: isas[0], isas } };
    return ssh.host(name, `console.log(${JSON.stringify(JSON.stringify(answer))})`);
  };
  const two = [having('a', 'avx2', 'generic'), having('b', 'generic')];
  const found = {
    resolved: { config: CONFIG, segments: [], isa: null },
    figures: { rankLeast: [1] },
    warnings: [],
  } as unknown as Preflight;
  const rest = { workerPort: 0, network: null, environment: {}, overrides: [], prometheusTargets: null };
  const run = { ...rest, hosts: two, minWorkers: 1, patienceSeconds: 600 } as unknown as LaunchOptions;
  const { instructionSets, warnings } = await refuseUnfit(new HostQuestions(two, {}), found, null);
  expect(instructionSets).toEqual(['generic']);
  expect(warnings).toEqual(['all workers compute with generic, which every host has: a avx2, b generic']);
  const command = coordinatorProcess({ ...run, instructionSets: ['avx2', 'generic'] }).command.join(' ');
  expect(command).toContain('--instruction-sets avx2,generic');
  expect(workerProcess({ ...run, instructionSets }, 1).environment).not.toHaveProperty('ORCHESTRATOR_ISA');
});

test('a host of which nobody knows is named as one that cannot be reached, beside what is wrong with others', async () => {
  const ssh = new PretendedSsh('hostname nosuchhost.invalid\n');
  onTestFinished(() => ssh.close());
  const unreachable = "process.stderr.write('ssh: Could not resolve hostname\\n'); process.exit(255);";
  const other = "console.log(JSON.stringify({ version: '0.0.8', protocol: 1 }));";
  const remote = [ssh.host('nosuchhost', unreachable), ssh.host('older', other)];
  const { unknown } = await networkOfHosts(remote, {});
  expect(unknown?.message).toContain('Under which address nosuchhost reaches this machine is unknown');
  const found = {
    resolved: { config: CONFIG, segments: [], isa: null },
    figures: { rankLeast: [1] },
    warnings: ['memory is tight'],
  } as unknown as Preflight;
  const questions = new HostQuestions(remote, {});
  const told = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  onTestFinished(() => told.mockRestore());
  const refused = await refuseUnfit(questions, found, unknown).catch((error: OrchestratorError) => error);
  // There will be no run whose log has it.
  expect(told.mock.calls).toEqual([['warn memory is tight\n']]);
  const { message, also } = refused as OrchestratorError;
  expect([message, ...also.map((one) => one.message)]).toEqual([
    expect.stringContaining('nosuchhost cannot be reached by ssh'),
    expect.stringContaining('older: it has version 0.0.8'),
  ]);
});
