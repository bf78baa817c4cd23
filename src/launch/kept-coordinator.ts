/** The coordinator of a run, which is started again when it has died. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ENDED } from '../rule/events.js';
import type { Orphan } from '../run-folder/former.js';
import { describeExit, type ProcessEnd, type StopSignal, stopCodeOf } from '../signals.js';
import type { Screen } from '../telemetry/screen.js';
import { type Child, isRunning, lineSender, passLines, sendMessage, startChild } from './children.js';
import type { Exits } from './exits.js';
import { Members } from './members.js';
import type { CoordinatorNotice, LauncherNotice } from './notices.js';
import { coordinatorProcess, expectedWorkers, type LaunchOptions } from './processes.js';
import { Restarts } from './restarts.js';

interface KeptCoordinatorOptions {
  run: LaunchOptions;
  screen: Screen;
  exits: Exits;
  /** A process is the coordinator from now on. */
  onStarted: (child: Child) => void;
  /** The first signal to stop that the launcher has got. */
  signal: () => StopSignal | null;
}

export class KeptCoordinator {
  readonly members = new Members();
  /** Resolves when the run has begun to train. */
  readonly begun: Promise<void>;
  /** Resolves when no coordinator is left, and none comes. */
  readonly over: Promise<void>;
  #begins: () => void = () => {};
  #ends: () => void = () => {};
  readonly #options: KeptCoordinatorOptions;
  #child!: Child;
  #instructionSets: readonly string[] | null = null;
  #present: Promise<string | null> = Promise.resolve(null);
  #tell: (line: string) => void = () => {};
  /** The run is over, as the coordinator says. */
  #isOver = false;
  /** It has ended, and is not started again. */
  #hasEnded = false;
  /** It has died, and the next one does not listen yet. */
  #isAway = false;
  /** Workers of a launch before this one, which may come back, by their ids. */
  #orphans: ReadonlyMap<string, Orphan> = new Map();
  /** Workers that have ended for good, and ends of which no coordinator was told. */
  readonly #gone = new Set<string>();
  readonly #untold: LauncherNotice[] = [];

  constructor(options: KeptCoordinatorOptions) {
    this.#options = options;
    this.begun = new Promise((resolve) => {
      this.#begins = resolve;
    });
    this.over = new Promise((resolve) => {
      this.#ends = resolve;
    });
  }

  /** The process that is the coordinator now, or was the last one. */
  get child(): Child {
    return this.#child;
  }

  /** Resolves with the credential of workers of this machine when it is there; null: it has ended. */
  get present(): Promise<string | null> {
    return this.#present;
  }

  /** Whether it is there and takes signals. One that is being started again gets the first when it listens. */
  get isPresent(): boolean {
    return !this.#isAway && isRunning(this.#child);
  }

  /** Whether it has not ended for good, though its process may be gone. */
  get mayReturn(): boolean {
    return !this.#hasEnded && !this.#isOver;
  }

  /** Whether what has died is started again. */
  get goesOn(): boolean {
    return this.mayReturn && this.#options.signal() === null;
  }

  /** Workers of a launch before this one that may come back. */
  get orphans(): readonly Orphan[] {
    return [...this.#orphans.values()];
  }

  /** The one of them that may come back under this name; null: none. */
  orphan(id: string): Orphan | null {
    return this.#orphans.get(id) ?? null;
  }

  /** It logs the line, and sends it back to be shown in its place. */
  tell(line: string): void {
    this.#tell(line);
  }

  /** It logs what the launch warns of, and sends it back to be shown. */
  warn(warning: string): void {
    const notice: LauncherNotice = { warning };
    sendMessage(this.#child, notice, () => this.#options.screen.print(`warn ${warning}`));
  }

  async start(): Promise<void> {
    const child = await this.#start(false);
    this.#present = this.#listens(child, (orphans) => {
      this.#orphans = new Map(orphans.map((orphan) => [orphan.id, orphan]));
    });
  }

  /** The run may begin: until now the process has waited, and has changed nothing. */
  begin(instructionSets: readonly string[] | null): void {
    this.#instructionSets = instructionSets;
    sendMessage(this.#child, { begin: { instructionSets } } satisfies LauncherNotice);
  }

  /** From now on it is not started again. */
  giveUp(): void {
    this.#hasEnded = true;
    this.#ends();
  }

  /** A worker's process has ended. */
  workerEnded(exited: NonNullable<LauncherNotice['exited']>): void {
    if (!exited.again && !exited.mayLive) this.#gone.add(exited.workerId);
    const notice: LauncherNotice = { exited };
    sendMessage(this.#child, notice, () => this.#untold.push(notice));
  }

  /** A worker's process is about to be started, whatever has become of the one before. */
  workerStarts(workerId: string): void {
    this.#gone.delete(workerId);
    this.members.starts(workerId);
  }

  /** A worker of the launch before this one has ended, and no other is started in its place. */
  forget(workerId: string): void {
    // The next coordinator does not wait for it: it knows from the journal who may return.
    sendMessage(this.#child, { forgotten: workerId } satisfies LauncherNotice);
  }

  /** Passes on the first signal, if there was one. */
  passSignal(): void {
    const signal = this.#options.signal();
    if (signal !== null && isRunning(this.#child)) this.#child.process.kill(signal);
  }

  /** Starts it again whenever it has died, and returns how the last one has ended. */
  async keep(): Promise<ProcessEnd> {
    const { run, screen, exits } = this.#options;
    const restarts = new Restarts(run.maxRestarts);
    for (;;) {
      const ended = await this.#child.exited;
      // Also where the run was told to stop, so that what the workers hold is saved. A signal that ends the process in
      // which it is started again comes too early to be handled.
      const isTold = stopCodeOf(ended) !== null && !this.#isAway;
      const isMissed = ended.code === null && !isTold && this.mayReturn;
      const restart = isMissed ? restarts.next(performance.now()) : null;
      if (restart === null) {
        this.giveUp();
        return ended;
      }
      const why = `the coordinator (pid ${this.#child.pid}) ${describeExit(exits.of(ended))}`;
      const of = `start ${restart.count} of ${run.maxRestarts} in 10 minutes`;
      screen.print(
        `${why}; it is started again in ${restart.delayMs / 1000} s (${of}), and the workers keep what they hold`,
      );
      this.#isAway = true;
      let isBack = (_: string | null) => {};
      this.#present = new Promise((resolve) => {
        isBack = resolve;
      });
      await sleep(restart.delayMs);
      if (this.#hasEnded) return ended;
      const credential = await this.#listens(await this.#start(true));
      isBack(credential);
      if (credential === null) continue;
      for (const gone of this.#gone) sendMessage(this.#child, { gone } satisfies LauncherNotice);
      for (const notice of this.#untold.splice(0)) sendMessage(this.#child, notice);
      this.#isAway = false;
      this.passSignal();
    }
  }

  /** Resolves with the credential of workers of this machine when it listens; it then hears who is to join. */
  async #listens(child: Child, onOrphans?: (orphans: readonly Orphan[]) => void): Promise<string | null> {
    const credential = await listening(child, onOrphans);
    if (credential !== null) {
      sendMessage(child, { expected: expectedWorkers(this.#options.run) } satisfies LauncherNotice);
    }
    return credential;
  }

  #onPhase(phase: string): void {
    this.#isOver = ENDED.has(phase);
    if (phase === 'RUNNING') this.#begins();
  }

  async #start(again: boolean): Promise<Child> {
    const { run, screen, onStarted } = this.#options;
    const { name, command, environment } = coordinatorProcess(
      { ...run, instructionSets: this.#instructionSets },
      again,
    );
    const child = await startChild(name, command, environment, ['ignore', 'pipe', 'pipe', 'ipc']);
    this.#child = child;
    onStarted(child);
    const print = (line: string) => screen.print(line);
    child.process.on('message', (notice: CoordinatorNotice) => {
      if (notice.record?.[0] === 'phase') this.#onPhase(notice.record[1]);
      screen.receive(notice);
    });
    passLines(child, print);
    this.members.follow(child);
    this.#tell = lineSender(child, (output): LauncherNotice => ({ output }), print);
    return child;
  }
}

/** The credential of workers of this machine, or null if the coordinator ended first (it has printed why). */
function listening(
  coordinator: Child,
  onOrphans: (orphans: readonly Orphan[]) => void = () => {},
): Promise<string | null> {
  return new Promise((resolve) => {
    coordinator.process.on('message', ({ listening }: CoordinatorNotice) => {
      if (listening === undefined) return;
      onOrphans(listening.orphans);
      resolve(listening.credential);
    });
    coordinator.process.once('exit', () => resolve(null));
  });
}
