/** What is left of hosts of a test that could not be made. */
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { noHosts, TestHosts } from '../../support/hosts.js';
import { because } from '../../support/needs.js';

const reason = noHosts();

test.skipIf(reason)(because('hosts that fail half-way leave no network namespace', reason), () => {
  const own = () => readdirSync('/run/netns').filter((name) => name.startsWith(`orch-${process.pid}-`));
  const before = own();
  const first = TestHosts.switched(1);
  const [, made] = /-(\d+)-1$/.exec(first.on(1).at(-1)!)!;
  first.remove();
  // The name of the next switch is taken.
  execFileSync('ip', ['netns', 'add', `orch-${process.pid}-${Number(made) + 1}-switch`]);
  expect(() => TestHosts.switched(1)).toThrow('ip netns add');
  expect(own()).toEqual(before);
});
