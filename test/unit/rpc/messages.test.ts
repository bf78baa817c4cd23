import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { canonicalHash } from '../../../src/files/hash.js';
import { channelTarget, hostInAddress, socketAddress, splitAddress } from '../../../src/rpc/address.js';

describe('addresses', () => {
  test('of hosts and of this machine, for node:net and for gRPC', () => {
    expect(socketAddress('[::1]:80')).toEqual({ host: '::1', port: 80 });
    expect(socketAddress('unix-abstract:x')).toEqual({ path: '\0x' });
    expect(channelTarget('unix-abstract:x')).toBe('unix:\0x');
    expect(channelTarget('host:1')).toBe('host:1');
    expect(['fe80::1', '[fe80::1]', '10.0.0.1', 'host'].map(hostInAddress)).toEqual([
      '[fe80::1]',
      '[fe80::1]',
      '10.0.0.1',
      'host',
    ]);
  });

  test('host:port and nothing else', () => {
    expect(splitAddress('[::1]:80')).toEqual({ host: '[::1]', port: 80 });
    for (const bad of ['127.0.0.1', 'a:b', '::1', 'x:99999', ''])
      expect(() => splitAddress(bad)).toThrow(/host:port/);
  });
});

describe('hashes', () => {
  test('of equal values are equal, whatever the order of keys', () => {
    expect(canonicalHash({ a: 1, b: [{ d: 2, c: 3 }] })).toBe(canonicalHash({ b: [{ c: 3, d: 2 }], a: 1 }));
    expect(canonicalHash({ a: 1 })).not.toBe(canonicalHash({ a: 2 }));
    expect(canonicalHash(['b', 'a'])).not.toBe(canonicalHash(['a', 'b']));
  });
});

test('the generated types are those of proto/cluster.proto', () => {
  execFileSync('bash', ['scripts/generate-proto.sh', '--check']);
});
