import { afterAll, describe, expect, test } from 'vitest';
import { measureLinks, placed } from '../../../src/launch/check-links.js';
import { type RunHost, thisMachine } from '../../../src/launch/processes.js';
import { newKey } from '../../../src/security/keys.js';
import { PretendedSsh } from '../../support/pretended-ssh.js';

const node = (destination: string): RunHost => ({
  ...{ name: destination, ssh: { destination, port: null } },
  ...{ workers: 1, folder: '/opt', data: null },
});

describe('the ports at which connections are tested', () => {
  const portsOf = (...hosts: RunHost[]) => placed(hosts, 7_000).map(({ port }) => port);

  test('are those of a run, wherever this machine stands in the list', () => {
    expect(portsOf(node('a'), node('b'), thisMachine(1))).toEqual([7_001, 7_001, 7_000]);
    expect(portsOf(thisMachine(0), node('a'))).toEqual([7_000, 7_001]);
    expect(placed([node('a'), thisMachine(1)], 0).map(({ port }) => port)).toEqual([0, 0]);
  });

  test('are not the same one for two entries with one name', () => {
    expect(portsOf(node('a'), node('root@a'), node('b'), node('x@a'))).toEqual([7_001, 7_002, 7_001, 7_003]);
  });

  test('are ports', () => {
    expect(placed([thisMachine(1), node('a')], 65_534)[1]!.port).toBe(65_535);
    expect(() => placed([thisMachine(1), node('a')], 65_535)).toThrow(/leaves no port for a/);
  });
});

describe('a host that says what it should not', () => {
  const ssh = new PretendedSsh();
  afterAll(() => ssh.close());
  const key = JSON.stringify({ publicKey: newKey().publicKey.toString('base64') });
  const options = { address: '127.0.0.1', environment: {} };
  const answering = (line: object) => `
    console.log(${JSON.stringify(key)});
    process.stdin.once('data', () => console.log(${JSON.stringify(JSON.stringify(line))}));`;
  const problemsOf = async (...scripts: string[]) => {
    const hosts = scripts.map((script, index) => ({ host: ssh.host(`b${index}`, script), port: 0 }));
    const { links, problems } = await measureLinks(hosts, options);
    expect(links).toEqual([]);
    return problems.map(({ message }) => message).sort();
  };

  test('without end is given up', async () => {
    const endless = `const more = () => process.stdout.write('x'.repeat(65_536), more); more();`;
    expect(await problemsOf(endless)).toEqual(['b0: it says more than an answer']);
  });

  test('with control characters controls no terminal', async () => {
    const problem = 'no\u001b]0;title\u0007\nready to train';
    expect(await problemsOf(answering({ problem }))).toEqual(['b0: no]0;title ready to train']);
  });

  test('is not believed where that is not an address', async () => {
    const addresses = ['example.org:80', '10.0.0.2:0', '10.0.0.2', 'unix-abstract:x'];
    expect(await problemsOf(...addresses.map((address) => answering({ address })))).toEqual(
      addresses.map((address, i) => `b${i}: it says that it listens at ${address}, which is no address`),
    );
  });
});
