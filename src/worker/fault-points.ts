/**
 * Faults for tests: a worker that is started with ORCHESTRATOR_FAULT=WORKER:POINT:STEP:kill dies at this point of its
 * loop, and with `stop` in the place of `kill` it is stopped there. Other workers, and others' variables, do nothing.
 */

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
  point: string;
  step: number;
  signal: 'SIGKILL' | 'SIGSTOP';
}

let planned: Fault | null = null;

/** Takes what the environment asks of this worker, and says so. */
export function planFault(workerId: string, text = process.env.ORCHESTRATOR_FAULT): void {
  const [, worker, point = '', step, how] = /^([^:]+):(\w+):(\d+):(kill|stop)$/.exec(text ?? '') ?? [];
  planned = null;
  if (worker !== workerId) return;
  planned = { point, step: Number(step), signal: how === 'kill' ? 'SIGKILL' : 'SIGSTOP' };
  process.stderr.write(
    `warn ORCHESTRATOR_FAULT: this worker is sent ${planned.signal} at ${point} ${step}\n`,
  );
}

/** The worker has come to this point of this step. */
export function faultPoint(point: FaultPoint, step: number): void {
  if (planned?.point === point && planned.step === step) process.kill(process.pid, planned.signal);
}
