import { readFileSync } from 'node:fs';
import { afterEach, expect, test, vi } from 'vitest';
import { checkAddon } from '../../src/doctor/addon.js';
import { faultPoint, planFault } from '../../src/fault-points.js';
import { addonPath, native } from '../../src/native/load.js';
import { FAULT_ADDON, NATIVE_POINTS, noFaultAddon } from '../support/fault-addon.js';
import { because } from '../support/needs.js';

afterEach(() => {
  vi.restoreAllMocks();
  planFault('w', undefined, '');
});

test.each([
  'w:reduce:3',
  'w:reduce:3:killed',
  'w:nowhere:3:kill',
  'w:reduce:x:kill',
  'kill',
  'w:reduce:3:segv',
  'w:updating:3:kill',
])('what nobody understands is refused: %s', (text) => {
  expect(() => planFault('w', undefined, text)).toThrow(
    /ORCHESTRATOR_FAULT is .* not WORKER:POINT:STEP:kill, stop, hang or cut/,
  );
});

test('a fault is told, and comes to its worker at its point and step alone', () => {
  const killed = vi.spyOn(process, 'kill').mockReturnValue(true);
  const told = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  planFault('other', undefined, 'w:reduce:3:kill');
  expect(told).not.toHaveBeenCalled();
  faultPoint('reduce', 3);
  planFault('w', undefined, 'w:reduce:3:kill');
  expect(told).toHaveBeenCalledWith('warn ORCHESTRATOR_FAULT: this worker is sent SIGKILL at reduce 3\n');
  faultPoint('reduce', 2);
  faultPoint('prepared', 3);
  expect(killed).not.toHaveBeenCalled();
  faultPoint('reduce', 3);
  expect(killed).toHaveBeenCalledWith(process.pid, 'SIGKILL');
});

test('of several faults, a process takes its own, and gives those of native code to the addon', () => {
  const told = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const plan = vi.fn();
  const addon = () => ({ points: ['updating'], plan });
  planFault('v', addon, 'w:reduce:3:kill,v:updating:4:segv');
  expect(plan.mock.calls).toEqual([['updating', 4, 'segv']]);
  expect(told).not.toHaveBeenCalled();
  expect(() => planFault('v', addon, 'w:reduce:3:kill,v:updating:4:cut')).toThrow('"v:updating:4:cut"');
});

test('a process may have several faults, one of them of native code', () => {
  const killed = vi.spyOn(process, 'kill').mockReturnValue(true);
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const addon = () => ({ points: ['updating'], plan: vi.fn() });
  planFault('w', addon, 'w:reduce:3:stop,w:updating:4:kill,w:prepared:4:kill');
  faultPoint('reduce', 3);
  faultPoint('prepared', 4);
  faultPoint('prepared', 4);
  expect(killed.mock.calls.map(([, signal]) => signal)).toEqual(['SIGSTOP', 'SIGKILL']);
  expect(() => planFault('w', addon, 'w:updating:3:kill,w:updating:4:kill')).toThrow(/more than one fault/);
});

/** Names that the points leave in the symbols and texts of an addon. */
const traces = (path: string) => {
  const bytes = readFileSync(path);
  return ['ORCH_FAULTS', 'ORCHESTRATOR_FAULT', 'faults7reached', 'faults4step'].filter((name) =>
    bytes.includes(name),
  );
};

test('the addon that trains has no points, and no trace of them', () => {
  expect(NATIVE_POINTS.length).toBeGreaterThan(8);
  expect(native().faults).toBeUndefined();
  expect(traces(addonPath())).toEqual([]);
});

test.skipIf(noFaultAddon)(because('the addon with points says so, and doctor shows it', noFaultAddon), () => {
  expect(traces(FAULT_ADDON)).toHaveLength(4);
  expect(checkAddon(FAULT_ADDON)[0]).toMatchObject({ name: 'addon', status: 'warning' });
});
