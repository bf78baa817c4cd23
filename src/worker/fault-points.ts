/**
 * Faults for tests: a worker that is started with ORCHESTRATOR_FAULT=WORKER:POINT:STEP:kill dies at this point of its
 * loop. With `stop` in the place of `kill` it is stopped there, and with `hang` its event loop stands. Other workers,
 * and others' variables, do nothing.
 */

import { OrchestratorError } from '../errors.js';

/** The points in the order in which a worker comes to them; those of a generation have its number for a step. */
export const FAULT_POINTS = [
  'formed',
  'synced',
  'prepare',
  'reduce',
  'prepared',
  'commit',
  'updated',
  'applied',
  'validated',
  'saving',
] as const;
type FaultPoint = (typeof FAULT_POINTS)[number];

interface Fault {
  point: FaultPoint;
  step: number;
  how: How;
}

/** What the worker says that it will do. */
const EFFECTS = { kill: 'is sent SIGKILL', stop: 'is sent SIGSTOP', hang: 'hangs' };
type How = keyof typeof EFFECTS;

let planned: Fault | null = null;

/** Takes what the environment asks of this worker, and says so. */
export function planFault(workerId: string, text = process.env.ORCHESTRATOR_FAULT): void {
  planned = null;
  if (text === undefined || text === '') return;
  const [, worker, point, step, how] = /^([^:]+):(\w+):(\d+):(kill|stop|hang)$/.exec(text) ?? [];
  if (!FAULT_POINTS.some((known) => known === point)) {
    throw new OrchestratorError(
      'ERR_USAGE',
      `ORCHESTRATOR_FAULT is ${JSON.stringify(text)}, which is not WORKER:POINT:STEP:kill, stop or hang`,
      `Unset it: it is for tests. The points are ${FAULT_POINTS.join(', ')}`,
    );
  }
  if (worker !== workerId) return;
  planned = { point: point as FaultPoint, step: Number(step), how: how as How };
  process.stderr.write(`warn ORCHESTRATOR_FAULT: this worker ${EFFECTS[planned.how]} at ${point} ${step}\n`);
}

/** The worker has come to this point of this step. */
export function faultPoint(point: FaultPoint, step: number): void {
  if (planned?.point !== point || planned.step !== step) return;
  if (planned.how === 'hang') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  else process.kill(process.pid, planned.how === 'kill' ? 'SIGKILL' : 'SIGSTOP');
}
