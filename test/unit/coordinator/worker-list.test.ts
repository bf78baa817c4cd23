import { expect, test } from 'vitest';
import { workerList } from '../../../src/coordinator/worker-list.js';
import { Script, SETTINGS } from '../../support/rule-script.js';

const exit = { code: 1, signal: null, outOfMemory: false };

/** "rank state id pid device" */
function list({ state }: Script): string[] {
  return workerList(state.rendezvous, state.places, ({ id, pid }) => `GPU of ${id} ${pid}`).map(
    ({ rank, state, id, host, pid, device }) => `${rank} ${state} ${id} ${pid} on ${host} ${device}`.trim(),
  );
}

test('a worker is building, on standby, training, leaving, lost or ended', () => {
  const script = new Script({ ...SETTINGS, maxWorkers: 4 });
  script.join('b');
  expect(list(script)).toEqual(['null building b 101 on h GPU of b 101']);
  script.standby('b');
  script.join('a');
  expect(list(script)).toEqual([
    'null standby b 101 on h GPU of b 101',
    'null building a 101 on h GPU of a 101',
  ]);
  script.standby('a');
  script.join('c');
  expect(list(script)).toEqual([
    '0 training a 101 on h GPU of a 101',
    '1 training b 101 on h GPU of b 101',
    'null building c 101 on h GPU of c 101',
  ]);
  script.event({ type: 'leave', id: 'c', leave: { exitCode: 143 } });
  expect(list(script)).not.toContainEqual(expect.stringContaining('building'));
  script.event({ type: 'lost', id: 'b', reason: 'reset' });
  expect(list(script)).toContain('null lost b 101 on h');
  script.event({ type: 'exited', id: 'b', pid: 101, exit, again: false });
  expect(list(script)).toContain('null ended b 101 on h');
  script.join('b');
  expect(list(script)).toContain('null building b 101 on h GPU of b 101');
});

test('a worker that the launcher starts is missing until it has joined, whatever is lost or ends then', () => {
  const script = new Script();
  const expected = (id: string, host: string) => ({ id, name: `worker on ${host}`, host });
  script.event({ type: 'expected', workers: [expected('a', 'here'), expected('b', 'there')] });
  expect(list(script)).toEqual(['null missing a null on here', 'null missing b null on there']);
  script.join('a');
  script.standby('a');
  expect(list(script)).toEqual(['null standby a 101 on h GPU of a 101', 'null missing b null on there']);
  script.event({ type: 'exited', id: 'b', exit, again: true });
  expect(list(script)).toContain('null missing b null on there');
  script.event({ type: 'exited', id: 'b', exit, again: false });
  expect(list(script)).toContain('null ended b null on there');
  expect(list(script)).not.toContainEqual(expect.stringContaining('missing'));
});
