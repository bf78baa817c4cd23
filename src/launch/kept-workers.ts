/** The workers that the launcher starts, and starts again when they have died. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Orphan } from '../coordinator/former.js';
import { EXIT } from '../errors.js';
import { faultLines, faultOf } from '../fault.js';
import { type ProcessEnd, SIGNAL_EXIT, stopCodeOf } from '../signals.js';
import { type Child, passLines } from './children.js';
import type { Exits } from './exits.js';
import type { KeptCoordinator } from './kept-coordinator.js';
import type { Launcher } from './launcher.js';
import { ENVIRONMENT, type LaunchOptions, type ProcessSpec, workerProcess } from './processes.js';
import { Restarts } from './restarts.js';

/** Time in which a worker that is started must have joined. */
const START_SECONDS = 900;
/**
 * Workers that look for a coordinator ask every two seconds. One of this machine lives, but may be stopped; of one
 * elsewhere that is not known.
 */
const RETURN_MS = { here: 15_000, elsewhere: 5_000 };

interface KeptWorkersOptions {
  run: LaunchOptions;
  launcher: Launcher;
  coordinator: KeptCoordinator;
  exits: Exits;
  /** A process was started: a worker's, or one that stands for it here. */
  onStarted: (child: Child, spec: ProcessSpec) => void;
  /** A worker of a launch before this one goes on: its process on this machine. */
  onAdopted: (pid: number) => void;
  /** Resolves when the coordinator has ended for good. */
  over: Promise<unknown>;
}

/** Time for what a process has printed at its end to arrive here. */
const LAST_LINES_MS = 1_000;

/** The end of a worker that has left in order, of which nobody has seen the exit code. */
const RELEASED: ProcessEnd = { code: SIGNAL_EXIT.SIGTERM, signal: null };

/** A worker that is started again and again. */
interface Kept {
  index: number;
  restarts: Restarts;
  /** Its host cannot be reached: when the next attempts are due; null: it could be the last time. */
  away: Restarts | null;
}

/** Holds back the first lines of a process, as long as each only says again that its host cannot be reached. */
export class HeldLines {
  readonly #tell: (line: string) => void;
  #held: string[] | null = [];

  constructor(tell: (line: string) => void) {
    this.#tell = tell;
  }

  add(line: string, saysUnreachable: boolean): void {
    if (saysUnreachable && this.#held !== null) {
      this.#held.push(line);
      return;
    }
    this.release();
    this.#tell(line);
  }

  /** What was held is told, and all that comes is told at once. */
  release(): void {
    const lines = this.#held ?? [];
    this.#held = null;
    for (const line of lines) this.#tell(line);
  }
}

export class KeptWorkers {
  readonly #options: KeptWorkersOptions;

  constructor(options: KeptWorkersOptions) {
    this.#options = options;
  }

  /**
   * Starts a worker, and again when it has died while the run goes on. Where that of a launch before this one may live,
   * it is started when that one is gone, or does not come back: it holds the state, and there is no place for two.
   */
  async start(index: number): Promise<void> {
    const { run, coordinator } = this.#options;
    const kept = { index, restarts: new Restarts(run.maxRestarts), away: null };
    const { name, environment } = workerProcess(run, index);
    const orphan = coordinator.orphan(environment[ENVIRONMENT.workerId]!);
    if (orphan === null) await this.#start(kept);
    else this.#startWhen(kept, name, this.#follow(orphan, kept, name));
  }

  /** Resolves when the worker of a launch before this one takes no part: whether another one is to be started. */
  async #follow({ id, pid }: Orphan, kept: Kept, name: string): Promise<boolean> {
    const { coordinator, onAdopted } = this.#options;
    const { members } = coordinator;
    if (!(await members.comes(id, pid === null ? RETURN_MS.elsewhere : RETURN_MS.here))) return true;
    if (pid !== null) onAdopted(pid);
    coordinator.tell(`${name} of the launch before${pid === null ? '' : ` (pid ${pid})`} lives, and goes on`);
    const { isReleased } = await members.gone(id);
    if (isReleased) this.#onEnd(kept, name, RELEASED);
    return !isReleased;
  }

  async #start(kept: Kept): Promise<void> {
    const { run, launcher, coordinator, onStarted } = this.#options;
    const address = await coordinator.present;
    if (address === null) return;
    const spec = workerProcess(run, kept.index);
    const workerId = spec.environment[ENVIRONMENT.workerId]!;
    const worker = await launcher.start(spec, await credentialOf(run, workerId, address));
    onStarted(worker, spec);
    const tell = (line: string) => coordinator.tell(`[${worker.name}] ${line}`);
    /** Why its host cannot be reached, if it cannot. */
    let unreachable: string | null = null;
    const held = new HeldLines(tell);
    passLines(worker, (line) => {
      const says = launcher.saysUnreachable(spec, line, unreachable);
      if (says) unreachable ??= line;
      held.add(line, says);
    });
    worker.process.once('exit', async (code, signal) => {
      const end = { code, signal };
      if (!launcher.hasEnded(spec, end)) {
        await Promise.race([worker.exited, sleep(LAST_LINES_MS, null, { ref: false })]);
        const isTried = unreachable !== null && run.maxRestarts > 0 && coordinator.goesOn;
        if (isTried && !coordinator.members.has(workerId)) {
          this.#tryLater(kept, spec, worker, unreachable!);
          return;
        }
      }
      held.release();
      this.#onEnd({ ...kept, away: null }, worker.name, await this.#endOf(spec, worker, end));
    });
  }

  /** A host that is down may come back: no attempt to reach it is a start of the worker. */
  #tryLater(kept: Kept, { host, name }: ProcessSpec, worker: Child, why: string): void {
    const away = kept.away ?? new Restarts(Number.POSITIVE_INFINITY);
    const tried = 'it is tried again, at least every half minute, as long as the run goes on';
    if (kept.away === null) {
      this.#options.coordinator.tell(`${host.name} cannot be reached to start ${name}: ${why}; ${tried}`);
    }
    this.#startLater({ ...kept, away }, worker.name, away.next(performance.now())!.delayMs);
  }

  /** How a worker has ended, when it has: it may outlive what stands for it here. */
  async #endOf(spec: ProcessSpec, { name }: Child, ended: ProcessEnd): Promise<ProcessEnd> {
    const { launcher, coordinator, over } = this.#options;
    if (launcher.hasEnded(spec, ended)) return ended;
    const workerId = spec.environment[ENVIRONMENT.workerId]!;
    if (coordinator.members.has(workerId) && coordinator.goesOn) {
      coordinator.tell(`the connection to ${name} is lost; the worker goes on without it`);
      const gone = await Promise.race([coordinator.members.gone(workerId), over.then(() => null)]);
      if (gone?.isReleased) return RELEASED;
    }
    return { code: null, signal: null };
  }

  #onEnd(kept: Kept, name: string, ended: ProcessEnd): void {
    const { run, coordinator, exits } = this.#options;
    const workerId = workerProcess(run, kept.index).environment[ENVIRONMENT.workerId]!;
    const isMissed = coordinator.goesOn && hasDied(ended);
    const restart = isMissed ? kept.restarts.next(performance.now()) : null;
    // The coordinator knows the rank, and whether the run was over.
    coordinator.workerEnded({ workerId, exit: exits.of(ended), again: restart !== null });
    if (restart === null) {
      const why = `--max-restarts allows ${run.maxRestarts} in 10 minutes`;
      if (isMissed) coordinator.tell(`${name} is not started again: ${why}`);
      return;
    }
    const { delayMs, count } = restart;
    const of = `start ${count} of ${run.maxRestarts} in 10 minutes`;
    coordinator.tell(`${name} is started again in ${delayMs / 1000} s (${of})`);
    this.#startLater(kept, name, delayMs);
  }

  #startLater(kept: Kept, name: string, delayMs: number): void {
    this.#startWhen(kept, name, sleep(delayMs, true, { ref: false }));
  }

  #startWhen(kept: Kept, name: string, due: Promise<boolean>): void {
    const { coordinator, over } = this.#options;
    const start = async () => {
      const isDue = await Promise.race([due, over.then(() => false)]);
      if (isDue && coordinator.goesOn) await this.#start(kept);
    };
    start().catch((error) => {
      // It could not be started, which counts as a start.
      coordinator.tell(`${name}: ${faultLines(faultOf(error)).join('\n')}`);
      this.#onEnd(kept, name, { code: EXIT.failed, signal: null });
    });
  }
}

/**
 * The credential of a worker.
 *
 * @param local That of workers of the coordinator's machine.
 */
async function credentialOf({ network }: LaunchOptions, worker: string, local: string): Promise<string> {
  if (network === null) return local;
  // Members of other machines know it by a certificate.
  const { invite } = await import('../rpc/invite.js');
  return await invite(local, { uses: 1, seconds: START_SECONDS, worker });
}

/** Whether a worker that ended so is missed: it was killed, or has failed. One that was told to end, or cannot start, is not. */
function hasDied(ended: ProcessEnd): boolean {
  return ended.code !== EXIT.done && ended.code !== EXIT.usage && stopCodeOf(ended) === null;
}
