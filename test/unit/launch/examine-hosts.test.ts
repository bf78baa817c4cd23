import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { examineHosts, renderHosts } from '../../../src/launch/examine-hosts.js';
import { hostReport } from '../../../src/launch/host-report.js';
import { thisMachine } from '../../../src/launch/processes.js';
import { version } from '../../../src/version.js';
import { temporaryFolder } from '../../support/folders.js';
import { TRAINING } from '../../support/launched.js';
import { PretendedSsh } from '../../support/pretended-ssh.js';

const OPTIONS = { listen: null, port: 0, environment: {} };
const UNKNOWN = `console.error('ssh: Could not resolve hostname nosuchhost: Name or service not known');
process.exit(255);`;
/** No host that is asked for its part in the test of connections may be one that cannot take part. */
const reporting = (report: object) => `
if (!process.argv[2].includes('host-report')) process.exit(1);
console.log(${JSON.stringify(JSON.stringify(report))});`;

let ssh: PretendedSsh;
afterEach(() => ssh.close());

const report = () => hostReport({ config: null, data: null, plan: null, workers: 1, probe: true });

test('all hosts are shown where one of them has no address', async () => {
  ssh = new PretendedSsh('hostname nosuchhost.invalid\n');
  const found = await examineHosts([ssh.host('nosuchhost', UNKNOWN), thisMachine(1)], null, OPTIONS);
  expect(found.hosts.map(({ host, reached }) => [host, reached])).toEqual([
    ['nosuchhost', false],
    ['localhost', true],
  ]);
  expect(found.problems.map(({ message }) => message)).toEqual([
    expect.stringContaining('nosuchhost cannot be reached by ssh: ssh: Could not resolve hostname'),
  ]);
  expect(renderHosts(found)).toMatch(new RegExp(`^localhost +${version()}`, 'm'));
});

test('that the address of this machine is unknown is a problem beside the others', async () => {
  ssh = new PretendedSsh('hostname b\nproxyjump c\n');
  const hosts = [thisMachine(1), ssh.host('b', reporting(await report()))];
  const { links, problems } = await examineHosts(hosts, null, OPTIONS);
  expect(links).toEqual([]);
  expect(problems).toEqual([
    {
      message: 'Under which address b reaches this machine is unknown: ssh reaches it by proxyjump c',
      fix: expect.stringMatching(/--listen ADDRESS, /),
    },
  ]);
});

test('of a host that has answered and does not end, the connection is ended', async () => {
  ssh = new PretendedSsh('hostname b\nproxyjump c\n');
  const pidFile = join(temporaryFolder(), 'pid');
  const hanging = `import { writeFileSync } from 'node:fs';
    writeFileSync('${pidFile}', String(process.pid));
    setInterval(() => {}, 1000);`;
  const { hosts } = await examineHosts([ssh.host('b', hanging + reporting(await report()))], null, OPTIONS);
  expect(hosts).toMatchObject([{ host: 'b', reached: true }]);
  const pid = readFileSync(pidFile, 'utf8');
  await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 10_000 }).toBe(false);
});

const SAME = 'Check out the same commit on both machines, and run npm run setup on each';

test('hosts with another version are told as such, whatever they say, and are not asked for more', async () => {
  ssh = new PretendedSsh('hostname 127.0.0.1\n');
  const other = { ...(await report()), version: '0.0.9\u001b]0;title\u0007' };
  const hosts = [
    thisMachine(1),
    ssh.host('older', reporting({ version: '0.0.8', protocol: 1, cores: 4 })),
    ssh.host('other', reporting(other)),
  ];
  const { links, problems } = await examineHosts(hosts, null, OPTIONS);
  expect(links).toEqual([]);
  expect(problems.map(({ message, fix }) => [message.split(' of this program')[0], fix])).toEqual([
    ['older: it has version 0.0.8 (protocol 1, build unknown)', SAME],
    [expect.stringMatching(/^other: it has version 0\.0\.9\]0;title \(protocol/), SAME],
  ]);
});

test("data sets are compared with that of this machine's own line", async () => {
  ssh = new PretendedSsh('hostname b\nproxyjump c\n');
  const config = loadConfig(TRAINING);
  const here = thisMachine(1, config.data.path);
  const elsewhere = { ...config, data: { ...config.data, path: temporaryFolder() } };
  const b = ssh.host('b', reporting({ ...(await report()), dataset: 'd2' }));
  const { problems } = await examineHosts([b, here], elsewhere, OPTIONS);
  expect(problems[0]!.message).toMatch(
    /^b: its data set is another one: its hash is d2, the run's is [0-9a-f]{64}$/,
  );
});

test('the bandwidth of half a second has no more digits than it is worth', () => {
  const link = (bytesPerSecond: number) => ({
    ...{ from: 'a', to: 'b', address: '10.0.0.2:1' },
    result: { roundTripSeconds: 0.001, bytesPerSecond },
  });
  const page = renderHosts({
    hosts: [],
    links: [link(1_234.5e6), link(0.456e6)],
    problems: [],
    warnings: [],
  });
  expect(page).toMatch(/1\.00 ms +about 1200 MB\/s$/m);
  expect(page).toMatch(/1\.00 ms +about 0\.46 MB\/s$/m);
});
