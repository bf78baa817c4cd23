import { expect, test } from 'vitest';
import { unknownTime } from '../../../src/launch/dry-run.js';
import { type RunHost, thisMachine } from '../../../src/launch/processes.js';

const host = (name: string): RunHost => ({
  ...{ name, ssh: { destination: name, port: null } },
  ...{ workers: 1, folder: '/opt', data: null },
});

test('why the time of a dry run is unknown names the hosts that may differ', () => {
  const cpu = (...names: string[]) => unknownTime('cpu', [thisMachine(1), ...names.map(host)]);
  expect(cpu('b', 'c')).toMatch(/^unknown: b, c may differ from this machine; `orchestrator estimate` /);
  expect(cpu('b', 'c', 'd', 'e')).toMatch(
    /^unknown: each of the 4 other hosts may differ from this machine;/,
  );
  expect(cpu()).toMatch(/^unknown for another machine or a GPU;/);
  expect(unknownTime('cuda', [host('b')])).toMatch(/^unknown for another machine or a GPU;/);
});
