import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { OrchestratorError } from '../../../src/errors.js';
import { type Asked, HostQuestions, judgeHosts } from '../../../src/launch/check-hosts.js';
import type { HostReport } from '../../../src/launch/host-report.js';
import { PROTOCOL } from '../../../src/rpc/protocol.js';
import { build, version } from '../../../src/version.js';
import { temporaryFolder } from '../../support/folders.js';
import { PretendedSsh } from '../../support/pretended-ssh.js';

const NOW = Date.UTC(2026, 0, 1);
const GIB = 2 ** 30;
const NEEDS = { dataset: 'd1', workerBytes: 3 * GIB };
const GOOD: HostReport = {
  version: version(),
  protocol: PROTOCOL,
  build: build(),
  unixMs: NOW,
  arithmetic: {
    isa: 'avx512',
    isas: ['avx512', 'avx2', 'generic'],
    kernels: '3',
    precision: 'bf16',
    gpus: '',
    probe: '1f',
  },
  addon: 'a1',
  node: '22.1.0',
  processors: 4,
  diskFreeBytes: GIB,
  dataset: 'd1',
  memoryBytes: 16 * GIB,
  problems: [],
};

type Differences = (Partial<HostReport> | OrchestratorError)[];

/** Hosts that have answered as a good one does, but for this. */
function judge(...differences: Differences) {
  return judgeFor(null, ...differences);
}

/** A processor with these instruction sets, the best first. */
function having(...isas: string[]): Partial<HostReport> {
  return { arithmetic: { ...GOOD.arithmetic, isa: isas[0]!, isas } };
}

/** @param isa The instruction set of the run. */
function judgeFor(isa: string | null, ...differences: Differences) {
  const asked = differences.map((difference, index): Asked => {
    const name = `node${index + 1}`;
    const host = { name, ssh: { destination: name, port: null }, workers: 2, folder: '/opt', data: null };
    const answer = difference instanceof OrchestratorError ? difference : { ...GOOD, ...difference };
    return { host, answer, receivedMs: NOW };
  });
  const { problems, ...rest } = judgeHosts(asked, { ...NEEDS, isa });
  return { problems: problems.map(({ message }) => message), ...rest };
}

/** What ssh of OpenSSH 9 says in BatchMode, and what is to be done. */
test.each<[string, string, string]>([
  [
    'unknown',
    'Host key verification failed.',
    'Its key is not known here: compare and accept it once by hand: ssh b true',
  ],
  [
    'changed',
    '@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key for b has changed and you have requested strict checking.\nHost key verification failed.',
    'It shows another key than before. If it was set up again, remove the old key: ssh-keygen -R b, then accept the new one: ssh b true',
  ],
  [
    'refused',
    'b: Permission denied (publickey).',
    'This must work without a question: ssh -o BatchMode=yes b true',
  ],
])('a host whose key is %s has its own remedy', async (_, says, hint) => {
  const ssh = new PretendedSsh();
  onTestFinished(() => ssh.close());
  const script = `process.stderr.write(${JSON.stringify(`${says}\n`)}); process.exit(255);`;
  const request = { config: null, plan: null };
  const [asked] = await new HostQuestions([ssh.host('b', script)], {}).ask(request);
  expect(asked!.answer).toMatchObject({
    message: `b cannot be reached by ssh: ${says.split('\n').at(-1)}`,
    hint,
  });
});

test('of a program that Node.js ends, its error is told, and not the last line', async () => {
  const ssh = new PretendedSsh();
  onTestFinished(() => ssh.close());
  const questions = new HostQuestions([ssh.host('b', "import('nosuchpackage');")], {});
  const [asked] = await questions.ask({ config: null, plan: null });
  expect(asked!.answer).toMatchObject({
    message: expect.stringMatching(/^b cannot run this program in .*: Error .*Cannot find .*nosuchpackage/),
  });
});

test('the connections are made before the question is known, and end where nothing is asked', async () => {
  const ssh = new PretendedSsh();
  onTestFinished(() => ssh.close());
  const started = join(temporaryFolder(), 'started');
  const script = `
    import { readFileSync, writeFileSync } from 'node:fs';
    writeFileSync('${started}', String(process.pid));
    const { plan } = JSON.parse(readFileSync(0, 'utf8'));
    process.stderr.write('asked with ' + plan);
    process.exitCode = 255;`;
  const begin = async () => {
    rmSync(started, { force: true });
    const questions = new HostQuestions([ssh.host('b', script)], {});
    await expect
      .poll(() => existsSync(started) && readFileSync(started, 'utf8'), { timeout: 30_000 })
      .toMatch(/\d/);
    return questions;
  };
  const [asked] = await (await begin()).ask({ config: null, plan: 7 });
  expect(asked!.answer).toMatchObject({ message: 'b cannot be reached by ssh: asked with 7' });
  const unasked = await begin();
  const pid = Number(readFileSync(started, 'utf8'));
  unasked.close();
  await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 10_000 }).toBe(false);
});

test('a report counts as soon as it is there, whenever the connection ends', async () => {
  const ssh = new PretendedSsh();
  onTestFinished(() => ssh.close());
  const script = `console.log('Welcome'); console.log(${JSON.stringify(JSON.stringify(GOOD))}); setInterval(() => {}, 1000);`;
  const questions = new HostQuestions([ssh.host('b', script)], {});
  onTestFinished(() => questions.close());
  const [asked] = await questions.ask({ config: null, plan: null });
  expect(asked!.answer).toEqual(GOOD);
});

test('a connection that has ended before the question is made once more', async () => {
  const ssh = new PretendedSsh();
  onTestFinished(() => ssh.close());
  const first = join(temporaryFolder(), 'first');
  const script = `
    import { existsSync, readFileSync, writeFileSync } from 'node:fs';
    if (!existsSync('${first}')) {
      writeFileSync('${first}', String(process.pid));
      console.error('client_loop: send disconnect: Broken pipe');
      process.exit(255);
    }
    if (JSON.parse(readFileSync(0, 'utf8')).plan === 7) console.log(${JSON.stringify(JSON.stringify(GOOD))});`;
  const questions = new HostQuestions([ssh.host('b', script)], {});
  onTestFinished(() => questions.close());
  const hasEnded = () => {
    const pid = existsSync(first) ? readFileSync(first, 'utf8') : '';
    return pid !== '' && !existsSync(`/proc/${pid}`);
  };
  await expect.poll(hasEnded, { timeout: 60_000 }).toBe(true);
  const [asked] = await questions.ask({ config: null, plan: 7 });
  expect(asked!.answer).toEqual(GOOD);
});

test('a machine without ssh is named as the one that lacks it', async () => {
  onTestFinished(() => void vi.unstubAllEnvs());
  vi.stubEnv('PATH', '/nonexistent');
  const ssh = { destination: 'b', port: null };
  const host = { name: 'b', ssh, workers: 1, folder: '/opt', data: null };
  const [asked] = await new HostQuestions([host], {}).ask({ config: null, plan: null });
  expect(asked!.answer).toMatchObject({
    message: 'b cannot be reached: the command ssh of this machine: it does not exist (ENOENT)',
    hint: expect.stringContaining('install it here'),
  });
});

test('every problem of a host has its remedy', () => {
  const asked = (differences: Partial<HostReport>, index: number): Asked => {
    const name = `node${index}`;
    const host = { name, ssh: { destination: name, port: null }, workers: 2, folder: '/opt', data: null };
    return { host, answer: { ...GOOD, ...differences }, receivedMs: NOW };
  };
  const bad: Partial<HostReport>[] = [
    { version: '0.0.9' },
    { dataset: 'd2' },
    { memoryBytes: GIB },
    { problems: [{ message: 'its disk: full', hint: 'Free some' }] },
    { arithmetic: { ...GOOD.arithmetic, kernels: '2' } },
    { arithmetic: { ...GOOD.arithmetic, probe: '2e' } },
  ];
  const { problems } = judgeHosts([{}, ...bad].map(asked), { ...NEEDS, isa: null });
  expect(problems).toHaveLength(bad.length);
  for (const { message, hint } of problems) expect(hint, message).toMatch(/^\w.+/);
});

describe('before a run starts workers on hosts', () => {
  test('nothing is said of hosts that are alike', () => {
    expect(judge({}, {})).toEqual({ problems: [], warnings: [], isas: null });
  });

  test.each<[string, Partial<HostReport>, string]>([
    [
      'version',
      { version: '0.0.9' },
      `node2: it has version 0.0.9 (protocol ${PROTOCOL}, build ${build()}) of this program`,
    ],
    [
      'protocol',
      { protocol: 1 },
      `node2: it has version ${version()} (protocol 1, build ${build()}) of this program`,
    ],
    [
      'build',
      { build: '1f2e3d4c5b6a' },
      `node2: it has version ${version()} (protocol ${PROTOCOL}, build 1f2e3d4c5b6a) of this program, and this machine`,
    ],
    ['data', { dataset: 'd2' }, "node2: its data set is another one: its hash is d2, the run's is d1"],
    [
      'memory',
      { memoryBytes: 5 * GIB },
      'node2: its 2 workers need at least 6.0 GiB of memory, and it has 5.0 GiB',
    ],
    [
      'what it says itself',
      { problems: [{ message: 'its disk: full', hint: 'Free some' }] },
      'node2: its disk: full',
    ],
    [
      'kernels',
      { arithmetic: { ...GOOD.arithmetic, kernels: '2' } },
      'node2 computes with kernels of version 2',
    ],
    [
      'probe',
      { arithmetic: { ...GOOD.arithmetic, probe: '2e' } },
      'node2 gets another result than node1 of the same computation with avx512',
    ],
    [
      'GPUs',
      { arithmetic: { ...GOOD.arithmetic, gpus: 'H100' } },
      'node2 computes with other GPUs or libraries: H100, and node1 with none',
    ],
  ])('another %s is told in one line with the name of the host', (_, difference, message) => {
    const { problems } = judge({}, difference);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(message);
  });

  test('another build of the addon is a warning: it may be that of another compiler', () => {
    const { problems, warnings } = judge({}, { addon: 'a2' }, { addon: '' });
    expect([problems, warnings]).toEqual([
      [],
      [
        'node2: its native addon is another build than that of node1; unless their compilers differ, run npm run build:native on both',
      ],
    ]);
  });

  test('all hosts are told of at once, those that did not answer as well', () => {
    const gone = new OrchestratorError('ERR_HOST', 'node1 cannot be reached by ssh: refused');
    expect(
      judge(gone, { dataset: 'd2' }, { version: '9' }).problems.map((text) => text.split(/[ :]/)[0]),
    ).toEqual(['node1', 'node2', 'node3']);
  });

  test('where instruction sets differ, the highest that all have is taken', () => {
    const all = [having('avx512bf16', 'avx512', 'avx2', 'generic'), having('avx2', 'generic'), {}];
    const { problems, warnings, isas } = judge(...all);
    expect({ problems, isas }).toEqual({ problems: [], isas: ['avx2', 'generic'] });
    expect(warnings).toEqual([
      'all workers compute with avx2, which every host has: node1 avx512bf16, node2 avx2, node3 avx512',
    ]);
    const mixed = judge(having('avx2'), having('neon'));
    expect(mixed.problems).toEqual(['The hosts have no instruction set in common: node1 avx2, node2 neon']);
  });

  test('a run that goes on has its instruction set already, and a host that lacks it is told what to do', () => {
    const best = having('avx512bf16', 'avx512', 'avx2');
    expect(judgeFor('avx512bf16', best, best)).toEqual({ problems: [], warnings: [], isas: null });
    const lower = judgeFor('avx2', best, having('avx2'));
    expect(lower).toMatchObject({ problems: [], isas: ['avx2'] });
    expect(lower.warnings).toEqual([expect.stringContaining('(node1 avx512bf16, node2 avx2)')]);
    const { problems } = judgeFor('avx512bf16', best, having('avx512', 'avx2'), having('avx2'));
    expect(problems.map((text) => text.split(', with')[0])).toEqual([
      'node2 lacks the instruction set avx512bf16',
      'node3 lacks the instruction set avx512bf16',
    ]);
  });

  test('a clock that is off is told, not one that is a moment late', () => {
    const clock = (ms: number) => judge({}, { unixMs: NOW + ms }).warnings;
    expect(clock(-20_000)).toEqual([]);
    expect(clock(3_600_000)).toEqual(['node2: its clock is 1 h ahead of that of this machine']);
    expect(clock(-2 * 86_400_000)[0]).toMatch(/behind .*: it will not believe the certificates of the run$/);
  });
});
