import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { canonicalHash } from '../../../src/files/hash.js';
import { isLoopback, socketAddress, splitAddress } from '../../../src/rpc/transport.js';

describe('addresses', () => {
  test('only loopback is plaintext', () => {
    expect(['127.0.0.1', '127.8.9.1', 'localhost', '::1', '[::1]'].map(isLoopback)).toEqual(
      Array(5).fill(true),
    );
    expect(['0.0.0.0', '10.0.0.1', '127.0.0.1.example.org', '::'].map(isLoopback)).toEqual(
      Array(4).fill(false),
    );
    expect(() => socketAddress('0.0.0.0:0')).toThrow('not on loopback');
    expect(socketAddress('[::1]:80')).toEqual({ host: '::1', port: 80 });
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
