/** The workers that the launcher starts, and starts again when they have died. */
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../errors.js';
import { faultLines, faultOf } from '../fault.js';
import { type ProcessEnd, stopCodeOf } from '../signals.js';
import { type Child, prefixLines } from './children.js';
import type { Exits } from './exits.js';
import type { KeptCoordinator } from './kept-coordinator.js';
import type { Launcher } from './launcher.js';
import { ENVIRONMENT, type LaunchOptions, type ProcessSpec, workerProcess } from './processes.js';
import { Restarts } from './restarts.js';

/** Time in which a worker that is started must have joined. */
const START_SECONDS = 900;

interface KeptWorkersOptions {
  run: LaunchOptions;
  launcher: Launcher;
  coordinator: KeptCoordinator;
  exits: Exits;
  /** A process was started: a worker's, or one that stands for it here. */
  onStarted: (child: Child, spec: ProcessSpec) => void;
  /** Resolves when the coordinator has ended for good. */
  over: Promise<unknown>;
}

export class KeptWorkers {
  readonly #options: KeptWorkersOptions;

  constructor(options: KeptWorkersOptions) {
    this.#options = options;
  }

  /** Starts a worker, and again when it has died while the run goes on. */
  async start(index: number, restarts = new Restarts(this.#options.run.maxRestarts)): Promise<void> {
    const { run, launcher, coordinator, onStarted } = this.#options;
    const address = await coordinator.present;
    if (address === null) return;
    const spec = workerProcess(run, index);
    const workerId = spec.environment[ENVIRONMENT.workerId]!;
    const worker = await launcher.start(spec, await credentialOf(run, workerId, address));
    onStarted(worker, spec);
    prefixLines(worker, (line) => coordinator.tell(line));
    worker.process.once('exit', async (code, signal) => {
      const ended = await this.#endOf(spec, worker, { code, signal });
      this.#onEnd(index, worker, ended, restarts);
    });
  }

  /** How a worker has ended, when it has: it may outlive what stands for it here. */
  async #endOf(spec: ProcessSpec, { name }: Child, ended: ProcessEnd): Promise<ProcessEnd> {
    const { launcher, coordinator, over } = this.#options;
    if (launcher.hasEnded(spec, ended)) return ended;
    const workerId = spec.environment[ENVIRONMENT.workerId]!;
    if (coordinator.members.has(workerId) && coordinator.goesOn) {
      coordinator.tell(`the connection to ${name} is lost; the worker goes on without it`);
      await Promise.race([coordinator.members.gone(workerId), over]);
    }
    return { code: null, signal: null };
  }

  #onEnd(index: number, worker: Child, ended: ProcessEnd, restarts: Restarts): void {
    const { run, coordinator, exits, over } = this.#options;
    const workerId = workerProcess(run, index).environment[ENVIRONMENT.workerId]!;
    const isMissed = coordinator.goesOn && hasDied(ended);
    const restart = isMissed ? restarts.next(performance.now()) : null;
    // The coordinator knows the rank, and whether the run was over.
    coordinator.workerEnded({ workerId, exit: exits.of(ended), again: restart !== null });
    if (restart === null) {
      const why = `--max-restarts allows ${run.maxRestarts} in 10 minutes`;
      if (isMissed) coordinator.tell(`${worker.name} is not started again: ${why}`);
      return;
    }
    const { delayMs, count } = restart;
    const of = `start ${count} of ${run.maxRestarts} in 10 minutes`;
    coordinator.tell(`${worker.name} is started again in ${delayMs / 1000} s (${of})`);
    const again = async () => {
      await Promise.race([sleep(delayMs, null, { ref: false }), over]);
      if (coordinator.goesOn) await this.start(index, restarts);
    };
    again().catch((error) => {
      // It could not be started, which counts as a start.
      coordinator.tell(`${worker.name}: ${faultLines(faultOf(error)).join('\n')}`);
      this.#onEnd(index, worker, { code: EXIT.failed, signal: null }, restarts);
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
