/** The workers that the launcher starts, and starts again when they have died. */
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../errors.js';
import { faultLines, faultOf } from '../fault.js';
import type { ProcessId } from '../files/processes.js';
import { type ProcessEnd, SIGNAL_EXIT, stopCodeOf } from '../signals.js';
import { counted, timeSpan } from '../text/quantities.js';
import { named } from '../text/shortened.js';
import { endOf } from './adopted.js';
import { type Child, signalGroup } from './children.js';
import type { Exits } from './exits.js';
import { HeldLines } from './held-lines.js';
import type { KeptCoordinator } from './kept-coordinator.js';
import type { Launcher } from './launcher.js';
import type { LeftBehind } from './left-behind.js';
import type { OpenedWorkers } from './opened-workers.js';
import {
  ENVIRONMENT,
  type LaunchOptions,
  nameWithHost,
  type ProcessSpec,
  workerProcess,
  workerProcesses,
} from './processes.js';
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
  opened: OpenedWorkers;
}

/** Time for what a process has printed at its end to arrive here. */
const LAST_LINES_MS = 1_000;
/** Time in which what a worker and the coordinator know of each other is known here. */
const SETTLE_MS = 1_000;

/** The end of a worker that has left in order, of which nobody has seen the exit code. */
const RELEASED: ProcessEnd = { code: SIGNAL_EXIT.SIGTERM, signal: null };

const KILLED = 'a signal has ended it there, as far as ssh tells (out of memory? see dmesg there)';

/** An end of which no more is known. */
const UNKNOWN: ProcessEnd = { code: null, signal: null };

/** A worker that is started again and again. */
interface Kept {
  index: number;
  restarts: Restarts;
  /** Starts after its host was cut off, which is no fault of the worker: any number is allowed. */
  returns: Restarts;
  /** Its host cannot be reached: when the next attempts are due; null: it could be the last time. */
  away: Restarts | null;
}

export class KeptWorkers {
  readonly #options: KeptWorkersOptions;
  /** The names under which the workers of this launch join. */
  readonly #ids = new Set<string>();
  /** What stands here for workers of other hosts, by their names. */
  readonly #elsewhere = new Map<string, Child>();

  constructor(options: KeptWorkersOptions) {
    this.#options = options;
  }

  /**
   * Starts a worker, and starts it again if it dies while the run goes on. If a worker of the launch before has the
   * same id and may live, nothing is started yet, because it holds the state. Another is started when it has ended, or
   * does not come in time. After the other one has joined, the coordinator refuses it.
   */
  async start(index: number): Promise<void> {
    const { run, coordinator } = this.#options;
    const [restarts, returns] = [new Restarts(run.maxRestarts), new Restarts(Number.POSITIVE_INFINITY)];
    const kept = { index, restarts, returns, away: null };
    const { name, environment } = workerProcess(run, index);
    const id = environment[ENVIRONMENT.workerId]!;
    this.#ids.add(id);
    const orphan = coordinator.orphan(id);
    if (orphan !== null) this.#options.opened.drop(index);
    if (orphan === null) await this.#start(kept);
    else if (orphan.process === null) {
      const called = `${name} of the launch before`;
      this.#startWhen(kept, name, this.#followElsewhere(id, kept, { name, called }, RETURN_MS.elsewhere));
    } else this.#startWhen(kept, name, this.#follow(id, orphan.process, kept, name));
  }

  /** Tells of workers without which the run has begun; null: all are there. */
  missing(): string | null {
    const { run, coordinator } = this.#options;
    const specs = workerProcesses(run);
    const missing = specs.filter(
      ({ environment }) => !coordinator.members.has(environment[ENVIRONMENT.workerId]!),
    );
    if (missing.length === 0) return null;
    const all = named(missing.map(({ name, host }) => nameWithHost(name, host)));
    return `the run has begun without ${missing.length} of its ${counted(specs.length, 'worker')}: ${all}; whoever is missing takes part when it comes, and what it has printed is above`;
  }

  /** Ends what waits for a credential, and what stands here for workers of other hosts that were not told to end. */
  endUntold(): void {
    const { members } = this.#options.coordinator;
    this.#options.opened.dropAll();
    for (const [id, child] of this.#elsewhere) if (!members.isReleased(id)) signalGroup(child, 'SIGKILL');
  }

  /** Workers of other hosts that may outlive the run, because nobody could tell them that it has ended. */
  leftBehind(): LeftBehind[] {
    const { run, coordinator } = this.#options;
    return workerProcesses(run).flatMap(({ host, environment }) => {
      const pid = coordinator.members.mayLive(environment[ENVIRONMENT.workerId]!);
      return host.ssh === null || pid === null ? [] : [{ host, pid }];
    });
  }

  /**
   * The coordinator waits for workers of the launch before that are none of this one, until they have ended, or until
   * those of other hosts would have come.
   */
  forgetOthers(): void {
    const { coordinator } = this.#options;
    const { members } = coordinator;
    for (const { id, process } of coordinator.orphans) {
      if (this.#ids.has(id)) continue;
      const isGone =
        process === null
          ? members.comes(id, RETURN_MS.elsewhere).then((comes) => !comes)
          : endOf(process).then(() => true);
      void isGone.then((gone) => {
        if (gone && coordinator.mayReturn) coordinator.forget(id);
      });
    }
  }

  /**
   * A worker of the launch before, on this machine: whether another one is to be started in its place. That it is lost
   * is no end of it: it may come back.
   */
  async #follow(id: string, process: ProcessId, kept: Kept, name: string): Promise<boolean> {
    const { coordinator } = this.#options;
    const { members } = coordinator;
    const { pid } = process;
    const called = `${name} of the launch before (pid ${pid})`;
    const ended = endOf(process).then(() => 'ended' as const);
    const isHere = await Promise.race([members.comes(id, RETURN_MS.here), ended]);
    if (isHere === false) return true;
    // One that is of another run ends as soon as it has heard of this one.
    const settled = sleep(SETTLE_MS, 'settled' as const, { ref: false });
    if ((await Promise.race([ended, settled])) === 'ended') {
      coordinator.tell(`${called} has ended: it was killed, or belongs to a run with other settings`);
      coordinator.workerEnded({ workerId: id, pid, exit: { ...UNKNOWN, outOfMemory: false }, again: true });
      return true;
    }
    coordinator.tell(`${called} lives, and goes on`);
    await ended;
    await Promise.race([members.gone(id), sleep(SETTLE_MS, null, { ref: false })]);
    this.#onEnd(kept, name, members.isReleased(id) ? RELEASED : UNKNOWN, pid);
    return false;
  }

  /** A worker on another host that may come by itself: the same. Only the coordinator hears of it. */
  async #followElsewhere(
    id: string,
    kept: Kept,
    { name, called }: { name: string; called: string },
    ms: number,
  ): Promise<boolean> {
    const { coordinator } = this.#options;
    if (!(await coordinator.members.comes(id, ms))) return true;
    coordinator.tell(`${called} lives, and goes on`);
    const ended = (await this.#leaves(id)) ? RELEASED : UNKNOWN;
    this.#onEnd(kept, name, ended, null, { mayLive: true });
    return false;
  }

  /** Resolves when a worker of another host takes no part, and does not come back: whether it was told to end. */
  async #leaves(id: string): Promise<boolean> {
    const { members } = this.#options.coordinator;
    let isReleased: boolean;
    do ({ isReleased } = await members.gone(id));
    while (!isReleased && (await members.comes(id, RETURN_MS.elsewhere)));
    return isReleased;
  }

  async #start(kept: Kept): Promise<void> {
    const { run, launcher, coordinator, opened } = this.#options;
    const address = await coordinator.present;
    if (address === null) return;
    const spec = workerProcess(run, kept.index);
    const workerId = spec.environment[ENVIRONMENT.workerId]!;
    coordinator.workerStarts(workerId);
    const credential = () => credentialOf(run, workerId, address);
    const { child: worker, lines } = await opened.start(kept.index, spec, credential);
    if (spec.host.ssh !== null) this.#elsewhere.set(workerId, worker);
    const tell = (line: string) => coordinator.tell(`[${worker.name}] ${line}`);
    /** Why its host cannot be reached, if it cannot. */
    let unreachable: string | null = null;
    let isLost = false;
    const held = new HeldLines(tell);
    lines.passTo((line) => {
      const says = launcher.saysUnreachable(spec, line, unreachable);
      if (says) unreachable ??= line;
      isLost ||= launcher.saysLost(spec, line);
      held.add(line, says);
    });
    onceEnded(worker, async (end) => {
      const isKnown = launcher.hasEnded(spec, end);
      if (this.#elsewhere.get(workerId) === worker) this.#elsewhere.delete(workerId);
      if (!isKnown) {
        await Promise.race([worker.exited, sleep(LAST_LINES_MS, null, { ref: false })]);
        const isTried = unreachable !== null && run.maxRestarts > 0 && coordinator.goesOn;
        if (isTried && !coordinator.members.has(workerId)) {
          this.#tryLater(kept, spec, worker, unreachable!);
          return;
        }
      }
      held.release();
      const { members } = coordinator;
      // A signal has ended what stands here for the worker.
      isLost = !isKnown && members.hasJoined(workerId) && (isLost || end.signal !== null);
      const isCutOff = members.isCutOff(workerId);
      const mayLive = !isKnown && (isLost || isCutOff);
      // ssh says of a connection that it has lost it, and of a worker that a signal has ended nothing.
      const isKilled = !isKnown && members.hasJoined(workerId) && !isLost && !isCutOff;
      const remote = isKilled ? members.mayLive(workerId) : null;
      const pid = spec.host.ssh === null ? worker.pid : remote;
      if (!mayLive) members.ended(workerId);
      const ended = isKnown ? end : await this.#endElsewhere(workerId, worker.name, isLost);
      if (isKilled && ended === UNKNOWN && coordinator.goesOn) tell(KILLED);
      this.#onEnd({ ...kept, away: null }, worker.name, ended, pid, { isLost, mayLive });
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

  /**
   * How a worker of another host has ended, when it has: it may outlive what stands for it here.
   *
   * @param mayReturn Whether it may be about to join again.
   */
  async #endElsewhere(id: string, name: string, mayReturn: boolean): Promise<ProcessEnd> {
    const { coordinator } = this.#options;
    const { members } = coordinator;
    const ends = coordinator.over.then(() => false);
    const comes = () => Promise.race([members.comes(id, RETURN_MS.elsewhere), ends]);
    const isAway = !members.has(id) && (!mayReturn || members.isCutOff(id) || !(await comes()));
    if (isAway || !coordinator.goesOn) return UNKNOWN;
    coordinator.tell(`the connection to ${name} is lost; the worker goes on without it`);
    return (await Promise.race([this.#leaves(id), ends])) ? RELEASED : UNKNOWN;
  }

  /**
   * @param pid The worker's process; null: it is of another host, or there is none.
   * @param how Whether the connection to its host was lost, and whether the process may live, for all that is known.
   */
  #onEnd(
    kept: Kept,
    name: string,
    ended: ProcessEnd,
    pid: number | null,
    how: { isLost?: boolean; mayLive?: boolean } = {},
  ): void {
    const { isLost = false, mayLive = false } = how;
    const { run, coordinator, exits } = this.#options;
    const { host, environment } = workerProcess(run, kept.index);
    const workerId = environment[ENVIRONMENT.workerId]!;
    const isMissed = coordinator.goesOn && hasDied(ended);
    // If a worker on another host is not heard, either the worker or the network may stand still.
    const isUnheard = host.ssh !== null && ended.code !== EXIT.hung && coordinator.members.isCutOff(workerId);
    const isCutOff = run.maxRestarts > 0 && (isLost || isUnheard);
    const starts = isCutOff ? kept.returns : kept.restarts;
    const restart = isMissed ? starts.next(performance.now()) : null;
    // The coordinator knows the rank, and whether the run was over.
    const again = restart !== null;
    const notice = { workerId, pid, exit: exits.of(ended), again };
    coordinator.workerEnded({ ...notice, ...(mayLive && ended === UNKNOWN ? { mayLive } : {}) });
    if (restart === null) {
      if (isMissed) this.#rest(kept, name);
      return;
    }
    const { delayMs, count } = restart;
    const of = isCutOff
      ? `${host.name} was cut off, which does not count for --max-restarts`
      : `start ${count} of ${run.maxRestarts} in 10 minutes`;
    coordinator.tell(`${name} is started again in ${delayMs / 1000} s (${of})`);
    this.#startLater(kept, name, delayMs);
  }

  /** It was started too often. The run does not wait for it, but when the time is over it is tried again. */
  #rest(kept: Kept, name: string): void {
    const { run, coordinator } = this.#options;
    const why = `--max-restarts allows ${run.maxRestarts} in 10 minutes`;
    const waitMs = kept.restarts.waitMs(performance.now());
    if (waitMs === null) {
      coordinator.tell(`${name} is not started again: ${why}`);
      return;
    }
    coordinator.tell(`${name} is not started again for ${timeSpan(waitMs / 1000)}: ${why}`);
    const due = sleep(waitMs, true, { ref: false }).then(
      () => kept.restarts.next(performance.now()) !== null,
    );
    this.#startWhen(kept, name, due);
  }

  /** Starts another in the place of one that has ended, unless that one is of another host, and has come back meanwhile. */
  #startLater(kept: Kept, name: string, delayMs: number): void {
    const { host, environment } = workerProcess(this.#options.run, kept.index);
    const id = environment[ENVIRONMENT.workerId]!;
    const isLate = async () =>
      host.ssh === null || (await this.#followElsewhere(id, kept, { name, called: name }, 0));
    this.#startWhen(kept, name, sleep(delayMs, null, { ref: false }).then(isLate));
  }

  #startWhen(kept: Kept, name: string, due: Promise<boolean>): void {
    const { coordinator } = this.#options;
    const start = async () => {
      const isDue = await Promise.race([due, coordinator.over.then(() => false)]);
      if (isDue && coordinator.goesOn) await this.#start(kept);
    };
    start().catch((error) => {
      // It could not be started, which counts as a start.
      coordinator.tell(`${name}: ${faultLines(faultOf(error)).join('\n')}`);
      this.#onEnd(kept, name, { code: EXIT.failed, signal: null }, null);
    });
  }
}

/** Calls it when the process has ended, also if that was before. */
function onceEnded({ process }: Child, then: (end: ProcessEnd) => Promise<void>): void {
  const { exitCode: code, signalCode: signal } = process;
  if (code !== null || signal !== null) void then({ code, signal });
  else process.once('exit', (code, signal) => void then({ code, signal }));
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
