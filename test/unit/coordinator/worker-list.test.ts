import { expect, test } from 'vitest';
import { workerList } from '../../../src/coordinator/worker-list.js';
import { Script, SETTINGS } from '../../support/rule-script.js';

const exit = { code: 1, signal: null, outOfMemory: false };

/** "rank state id pid device" */
function list({ state }: Script): string[] {
  return workerList(state.rendezvous, state.places, (rank) => `GPU ${rank}`).map(
    ({ rank, state, id, host, pid, device }) => `${rank} ${state} ${id} ${pid} on ${host} ${device}`.trim(),
  );
}

test('a worker is building, on standby, training, leaving, lost or ended', () => {
  const script = new Script({ ...SETTINGS, maxWorkers: 4 });
  script.join('b');
  expect(list(script)).toEqual(['null building b 101 on h']);
  script.standby('b');
  script.join('a');
  expect(list(script)).toEqual(['null standby b 101 on h', 'null building a 101 on h']);
  script.standby('a');
  script.join('c');
  expect(list(script)).toEqual([
    '0 training a 101 on h GPU 0',
    '1 training b 101 on h GPU 1',
    'null building c 101 on h',
  ]);
  script.event({ type: 'leave', id: 'c', leave: { exitCode: 143 } });
  expect(list(script)).not.toContainEqual(expect.stringContaining('building'));
  script.event({ type: 'lost', id: 'b', reason: 'reset' });
  expect(list(script)).toContain('null lost b 101 on h');
  script.event({ type: 'exited', id: 'b', pid: 101, exit, again: false });
  expect(list(script)).toContain('null ended b 101 on h');
  script.join('b');
  expect(list(script)).toContain('null building b 101 on h');
});
