/**
 * Faults for tests, as ORCHESTRATOR_FAULT=WORKER:POINT:STEP:ACTION says, with commas between several. The process that
 * is this worker, or the coordinator if WORKER is `coordinator`, comes to this point of its loop in this step, and then
 *
 * - `kill`: dies;
 * - `stop`: is stopped, as by SIGSTOP;
 * - `hang`: the thread stands still;
 * - `segv`: writes to an address that it does not have (native points);
 * - `cut`: loses the connections that other workers have with it.
 *
 * Faults are those of a run's first processes: a process that takes the place of another has none. A process has at most
 * one fault of native code.
 *
 * Most points are here. Those of native code exist only in the addon that `bash scripts/build-native.sh --faults`
 * builds, and ORCHESTRATOR_ADDON names; they are listed in native/faults/faults.h.
 */
import { OrchestratorError } from './errors.js';

/** In the place of a worker: the fault is the coordinator's. */
const COORDINATOR = 'coordinator';
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
  'validating',
  'validated',
  'saving',
] as const;

/** The same of the coordinator; those of a generation have its number for a step. */
export const COORDINATOR_POINTS = [
  /** A generation is in the journal, and no worker has heard of it. */
  'forming',
  /** A member has the state, and others may still be getting it. */
  'syncing',
  /** All have the state, and nobody was told to start. */
  'starting',
  /** A worker has computed the step. */
  'computed',
  /** All have, and it is not in the ledger. */
  'committing',
  /** It is in the ledger, and its metrics are not recorded. */
  'committed',
  /** They are recorded, and no worker has heard of it. */
  'recorded',
  /** A part has come of the state that a worker offers for a checkpoint, because no worker sees the run folder. */
  'fetching',
  /** The checkpoint is staged, and does not have its name. */
  'publishing',
  /** It has its name, and nobody was told. */
  'published',
] as const;
type FaultPoint = (typeof FAULT_POINTS)[number] | (typeof COORDINATOR_POINTS)[number];

interface Fault {
  point: string;
  step: number;
  how: How;
}

/** Points of native code, of an addon that has them. */
export interface NativeFaults {
  readonly points: readonly string[];
  /**
   * The first time that this process comes to the point at this step or a later one, it says so on standard error, and
   * has the fault: `kill`, `stop`, `hang` or `segv`. What it computes of a step depends on how fast others are, so it may
   * not come there in every step.
   */
  plan(point: string, step: number, how: string): void;
}

/** What the process says that it will do. */
const EFFECTS = {
  kill: 'is sent SIGKILL',
  stop: 'is sent SIGSTOP',
  hang: 'hangs',
  cut: 'loses the connections of others',
};
type How = keyof typeof EFFECTS;
const NATIVE: readonly string[] = ['kill', 'stop', 'hang', 'segv'];

let planned: Fault[] = [];
let cut = () => {};

/**
 * Takes what the environment asks of this process, and says so.
 *
 * @param name Its worker id, or `coordinator`.
 * @param native The points of native code; undefined: it has none.
 */
export function planFault(
  name: string,
  native: () => NativeFaults | undefined = () => undefined,
  text = process.env.ORCHESTRATOR_FAULT,
): void {
  planned = [];
  if (text === undefined || text === '') return;
  const ofNative = text.split(',').filter((fault) => plan(fault, name, native));
  if (ofNative.length < 2) return;
  const message = `ORCHESTRATOR_FAULT has more than one fault of native code for ${name}: ${ofNative.join(', ')}`;
  throw new OrchestratorError('ERR_USAGE', message, 'Unset it: it is for tests');
}

/** Returns whether it is a fault of native code of this process. */
function plan(text: string, name: string, native: () => NativeFaults | undefined): boolean {
  const [, of, point = '', step, how = ''] = /^([^:]+):(\w+):(\d+):(\w+)$/.exec(text) ?? [];
  const isOwn = of === name;
  if (of !== COORDINATOR && NATIVE.includes(how) && native()?.points.includes(point)) {
    if (isOwn) native()!.plan(point, Number(step), how);
    return isOwn;
  }
  const points: readonly string[] = of === COORDINATOR ? COORDINATOR_POINTS : FAULT_POINTS;
  if (!points.includes(point) || !Object.hasOwn(EFFECTS, how)) {
    throw new OrchestratorError(
      'ERR_USAGE',
      `ORCHESTRATOR_FAULT is ${JSON.stringify(text)}, which is not WORKER:POINT:STEP:kill, stop, hang or cut`,
      `Unset it: it is for tests. The points are ${points.join(', ')}. Those of native code, which may also have segv, ` +
        'need the addon of `bash scripts/build-native.sh --faults`, named by ORCHESTRATOR_ADDON' +
        (native() === undefined ? '' : `: ${native()!.points.join(', ')}`),
    );
  }
  if (!isOwn) return false;
  planned.push({ point, step: Number(step), how: how as How });
  const who = name === COORDINATOR ? 'the coordinator' : 'this worker';
  process.stderr.write(`warn ORCHESTRATOR_FAULT: ${who} ${EFFECTS[how as How]} at ${point} ${step}\n`);
  return false;
}

/** How this process loses the connections of others. */
export function whenCut(action: () => void): void {
  cut = action;
}

/** The process has come to this point of this step. */
export function faultPoint(point: FaultPoint, step: number): void {
  const at = planned.findIndex((fault) => fault.point === point && fault.step === step);
  if (at < 0) return;
  // The step may be run again, and goes well then.
  const [{ how }] = planned.splice(at, 1) as [Fault];
  if (how === 'cut') cut();
  else if (how === 'hang') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  else process.kill(process.pid, how === 'kill' ? 'SIGKILL' : 'SIGSTOP');
}
