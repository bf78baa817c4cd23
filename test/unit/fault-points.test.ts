import { afterEach, expect, test, vi } from 'vitest';
import { faultPoint, planFault } from '../../src/fault-points.js';

afterEach(() => {
  vi.restoreAllMocks();
  planFault('w', '');
});

test.each(['w:reduce:3', 'w:reduce:3:killed', 'w:nowhere:3:kill', 'w:reduce:x:kill', 'kill'])(
  'what nobody understands is refused: %s',
  (text) => {
    expect(() => planFault('w', text)).toThrow(
      /ORCHESTRATOR_FAULT is .* not WORKER:POINT:STEP:kill, stop, hang or cut/,
    );
  },
);

test('a fault is told, and comes to its worker at its point and step alone', () => {
  const killed = vi.spyOn(process, 'kill').mockReturnValue(true);
  const told = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  planFault('other', 'w:reduce:3:kill');
  expect(told).not.toHaveBeenCalled();
  faultPoint('reduce', 3);
  planFault('w', 'w:reduce:3:kill');
  expect(told).toHaveBeenCalledWith('warn ORCHESTRATOR_FAULT: this worker is sent SIGKILL at reduce 3\n');
  faultPoint('reduce', 2);
  faultPoint('prepared', 3);
  expect(killed).not.toHaveBeenCalled();
  faultPoint('reduce', 3);
  expect(killed).toHaveBeenCalledWith(process.pid, 'SIGKILL');
});
