/** `launch --hosts`: workers of other hosts, which are started by the system's ssh at a real ssh server. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { shellText } from '../../src/text/shell.js';
import { temporaryFolder } from '../support/folders.js';
import { FULL } from '../support/full.js';
import { noHosts, TestHosts } from '../support/hosts.js';
import {
  childrenOf,
  commandOf,
  ends,
  environmentOf,
  fingerprint,
  Launched,
  launch,
  type Whence,
} from '../support/launched.js';
import { because, needs } from '../support/needs.js';
import { PACED } from '../support/paced.js';
import { TestSshd } from '../support/sshd.js';

/** So many that the launcher, which waits for a worker elsewhere to come back, starts another before the end. */
const STEPS = 100;
const B = '10.77.0.2';
/** The port of a server whose processors are said to be plain. */
const PLAIN = 2222;
const reason = noHosts() ?? needs('sshd') ?? needs('ssh');

describe.skipIf(reason)(because('hosts that ssh reaches', reason), () => {
  const folder = temporaryFolder();
  const runDir = join(folder, 'run');
  let hosts: TestHosts;
  let sshd: TestSshd;
  let here: Whence;
  beforeAll(async () => {
    hosts = TestHosts.switched();
    sshd = new TestSshd(join(folder, 'ssh'));
    here = { before: hosts.on(1), env: { PATH: sshd.path } };
    mkdirSync(runDir);
    await sshd.serve(hosts.on(2, runDir), 22);
    await sshd.serve(hosts.on(2, runDir), PLAIN, { ORCHESTRATOR_ISA: 'generic' });
  });
  afterAll(() => {
    sshd?.close();
    hosts?.remove();
  });

  test.runIf(FULL)('a worker outlives its connection, and is started again when it dies', async () => {
    const reference = join(folder, 'reference');
    const long = ['--set', `schedule.steps=${STEPS}`];
    const undisturbed = launch(reference, 1, ...long);
    const options = ['--hosts', `localhost,${B}`, ...long];
    const { output: page } = await ends(launch(runDir, here, ...options, '--dry-run'), 0);
    const paced = { ...here, env: { ...PACED.env, ...here.env } };
    const run = new Launched(runDir, paced, ...options);
    await run.steps(1);
    const [connection] = childrenOf(run.process.pid!).filter((pid) => commandOf(pid)[0]?.endsWith('ssh'));
    // Before them is the configuration of the tests.
    const words = commandOf(connection!).slice(3);
    expect(page).toContain(`\n  ${shellText(['ssh', ...words])}\n`);
    for (const text of [...words, ...Object.values(environmentOf(connection!))])
      expect(text).not.toContain('orch1.');
    const before = run.stepsDone();
    process.kill(connection!, 'SIGKILL');
    await run.says(`the connection to worker 1 on ${B} is lost; the worker goes on without it`);
    await run.steps(before + 2);
    expect(run.output).not.toContain('the run continues after step');
    const worker = run.workers()[1]!;
    for (const text of [...commandOf(worker), ...Object.values(environmentOf(worker))])
      expect(text).not.toContain('orch1.');
    process.kill(worker, 'SIGKILL');
    await run.says(`worker 1 on ${B} is started again in 1 s`);
    await ends(run.outcome, 0);
    await ends(undisturbed, 0);
    expect(fingerprint(runDir, STEPS)).toEqual(fingerprint(reference, STEPS));
  });

  test('what is wrong with each host is told before anything is started', async () => {
    const other = join(folder, 'other-data');
    const hostfile = join(folder, 'hostfile');
    mkdirSync(other);
    const lines = [
      'localhost',
      `${B}:1 # nobody listens there`,
      `${B} dir=/nonexistent`,
      `root@${B} data=${other}`,
      `${B}:${PLAIN} slots=1`,
    ];
    writeFileSync(hostfile, lines.join('\n'));
    const unused = join(folder, 'unused');
    const { output } = await ends(launch(unused, here, '--hostfile', hostfile), 1);
    const problem = (host: string, what: RegExp) =>
      expect(output).toMatch(new RegExp(`^error ERR_HOST: ${host}${what.source}`, 'm'));
    problem(`${B}:1`, / cannot be reached by ssh: .*Connection refused/);
    problem(B, / cannot run this program in \/nonexistent: .*nonexistent/);
    problem(`root@${B}`, /: .*other-data is not a data set/);
    expect(output).toMatch(
      new RegExp(`^warn all workers compute with generic, .*${B}:${PLAIN} generic`, 'm'),
    );
    expect(output.match(/^error /gm)).toHaveLength(3);
    expect(existsSync(unused)).toBe(false);
  });
});
