import { hostname } from 'node:os';
import { describe, expect, test } from 'vitest';
import { isHere, nameOf, parseHostfile, parseHosts } from '../../../src/launch/hosts.js';

const UNSAID = { user: null, port: null, workers: null, folder: null, data: null };

describe('--hosts', () => {
  test('names, users, IPv6 addresses and numbers of workers', () => {
    expect(parseHosts('a, b:2,root@c.example.org,[fe80::1%eth0]:3,10.0.0.1')).toEqual([
      { ...UNSAID, host: 'a' },
      { ...UNSAID, host: 'b', workers: 2 },
      { ...UNSAID, host: 'c.example.org', user: 'root' },
      { ...UNSAID, host: 'fe80::1%eth0', workers: 3 },
      { ...UNSAID, host: '10.0.0.1' },
    ]);
  });

  test.each([
    ['', '--hosts: expected HOST, USER@HOST or HOST:WORKERS, an IPv6 address in brackets, received ""'],
    ['a,,b', 'received ""'],
    ['-oProxyCommand=x', 'received "-oProxyCommand=x"'],
    ['-x@host', 'received "-x@host"'],
    ['a b', 'received "a b"'],
    ['::1', 'received "::1"'],
    ['a:0', 'expected 1 to 4096 workers, received "0"'],
    ['a:5000', 'expected 1 to 4096 workers'],
    ['a,b,a:2', 'a is named twice; say how many workers it has'],
  ])('%j is refused', (text, message) => {
    expect(() => parseHosts(text)).toThrow(message);
  });
});

describe('a hostfile', () => {
  test("has DeepSpeed's lines, ports of ssh servers, and folders", () => {
    const text = [
      '# the cluster',
      '',
      'worker-1 slots=4 # the first',
      'root@worker-2:2222 slots=8 dir=/opt/run data=/mnt/data',
      '\t[2001:db8::1]:22\r',
    ].join('\n');
    expect(parseHostfile(text, 'hosts')).toEqual([
      { ...UNSAID, host: 'worker-1', workers: 4 },
      { user: 'root', host: 'worker-2', port: 2222, workers: 8, folder: '/opt/run', data: '/mnt/data' },
      { ...UNSAID, host: '2001:db8::1', port: 22 },
    ]);
  });

  test.each([
    ['# nothing\n', 'hosts names no host'],
    ['a\nb slots=0\n', 'hosts:2: expected 1 to 4096 workers, received "0"'],
    ['a slots=x', 'hosts:1: expected 1 to 4096 workers, received "x"'],
    ['a gpus=2', 'hosts:1: expected slots=N, dir=FOLDER or data=FOLDER, received "gpus=2"'],
    ['a:70000', 'hosts:1: expected HOST, USER@HOST or HOST:PORT of its ssh server'],
    ['a:0', 'hosts:1: expected HOST, USER@HOST or HOST:PORT'],
    ['\n-a', 'hosts:2: expected HOST'],
    ['a slots=1\n# b\na slots=2', 'hosts:3: a is named twice'],
  ])('%j is refused with its line', (text, message) => {
    expect(() => parseHostfile(text, 'hosts')).toThrow(message);
  });
});

test('hosts are named as they are written', () => {
  const name = (line: string) => nameOf(parseHostfile(line, 'hosts')[0]!);
  expect(name('root@[::1]:22')).toBe('root@[::1]:22');
  expect(name('a slots=3')).toBe('a');
  expect(name('[::1]')).toBe('::1');
});

test('this machine needs no ssh, unless a user or a port is named', () => {
  const here = (text: string) => parseHostfile(text, 'hosts').map((entry) => isHere(entry, 'node7.cluster'));
  expect(here('localhost\n127.0.0.1\n[::1]\nnode7\nnode7.cluster')).toEqual([true, true, true, true, true]);
  expect(here('node8\nroot@localhost\n127.0.0.1:2222')).toEqual([false, false, false]);
  expect(isHere(parseHosts(hostname())[0]!)).toBe(true);
});
