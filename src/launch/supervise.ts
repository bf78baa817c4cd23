/** Runs a coordinator and its workers, passes on what they report, and ends them together. */
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT, OrchestratorError } from '../errors.js';
import { mayHold } from '../run-folder/former.js';
import { lossOf, progressOf } from '../run-folder/progress.js';
import {
  describeExit,
  onStopSignals,
  type StopSignal,
  stopCodeOf,
  stopEarly,
  stoppedEarly,
  stopReason,
} from '../signals.js';
import { Screen } from '../telemetry/screen.js';
import { Adopted } from './adopted.js';
import { type Child, isRunning, sendMessage, signalGroup } from './children.js';
import { Exits } from './exits.js';
import { KeptCoordinator } from './kept-coordinator.js';
import { KeptWorkers } from './kept-workers.js';
import type { Launcher } from './launcher.js';
import { describeLeftBehind } from './left-behind.js';
import type { CoordinatorNotice, LauncherNotice } from './notices.js';
import { OpenedWorkers } from './opened-workers.js';
import { type LaunchOptions, workersOf } from './processes.js';

/** Time limit for the workers to exit after the coordinator has exited. */
const SHUTDOWN_MS = 3_000;
/**
 * A second SIGINT stops without saving if it comes at least this long after the first. A coordinator that has not
 * taken the first one until then may hang.
 */
const AGAIN_MS = 1_000;
const TOO_SOON =
  'still stopping in order: Ctrl-C counts again from one second after the first, to stop without saving';

interface Permission {
  /** What was found before the run began. */
  warnings: readonly string[];
  /** The instruction sets that all workers have, the best first, where some have others; null: all are alike. */
  instructionSets: readonly string[] | null;
}

/**
 * Runs to the end, and returns the exit code.
 *
 * @param permission Resolves when the run may begin. Until then its processes are started, and wait.
 */
export async function superviseRun(
  run: LaunchOptions,
  launcher: Launcher,
  permission: Promise<Permission>,
): Promise<number> {
  /** All processes; the coordinator is the first. */
  const children: Child[] = [];
  const adopted = new Adopted();
  const killAll = () => {
    for (const child of children) if (isRunning(child)) signalGroup(child, 'SIGKILL');
    adopted.signal('SIGKILL');
  };
  const allExited = async () => {
    const over = new AbortController();
    const { signal } = over;
    const all = Promise.all([...children.map(({ exited }) => exited), adopted.ended(signal)]);
    await Promise.race([all, sleep(SHUTDOWN_MS, null, { signal })]);
    over.abort();
  };
  process.on('exit', killAll);
  // It may fail when nobody waits for it any more.
  permission.catch(() => {});
  const exits = new Exits();
  // The terminal is the launcher's alone: no other process waits where it stands still.
  const screen = new Screen(process.stdout, process.stderr, process.env, run.form);
  const print = (line: string) => screen.print(line);
  let isListening = false;
  const { unsaved, first } = stopOnSignals(children, {
    isPresent: () => coordinator.isPresent,
    mayReturn: () => isListening && coordinator.mayReturn,
    print,
  });
  const coordinator = new KeptCoordinator({
    ...{ run, screen, exits, signal: first },
    onStarted: (child) => {
      children[0] = child;
    },
  });
  suspendTogether(children, adopted, screen);
  try {
    await coordinator.start();
    /** Those of this machine. */
    const local: Child[] = [];
    const opened = new OpenedWorkers(launcher, (child, { host }) => {
      keepWhileRunning(children, child);
      if (host.ssh === null) keepWhileRunning(local, child);
    });
    // Workers of a run that has not ended in order may still live, and are not started a second time.
    if (!mayHold(run.runDir)) await opened.openAll(run);
    const workers = new KeptWorkers({ run, launcher, coordinator, exits, opened });
    const { warnings = [], instructionSets = null } =
      (await Promise.race([permission, coordinator.child.exited.then(() => null)])) ?? {};
    coordinator.begin(instructionSets);
    isListening = (await Promise.race([coordinator.present, unsaved])) !== null;
    for (const warning of warnings) {
      if (isListening) coordinator.warn(warning);
      else print(`warn ${warning}`);
    }
    // Before a process runs its first statement, Node.js takes SIGUSR1 for itself. Now it is heard.
    coordinator.passSignal();
    for (const { process } of coordinator.orphans) if (process !== null) adopted.add(process);
    const ended = isListening ? coordinator.keep() : coordinator.child.exited;
    for (let index = 0; isListening && index < workersOf(run) && coordinator.mayReturn; index++) {
      await workers.start(index);
    }
    workers.forgetOthers();
    void coordinator.begun.then(() => {
      const missing = workers.missing();
      if (missing !== null) coordinator.warn(missing);
    });
    const outcome = await Promise.race([ended, unsaved]);
    const tellOfLeftBehind = (mayResume: boolean) => {
      const lines = describeLeftBehind(workers.leftBehind(), run.patienceSeconds, mayResume);
      for (const line of lines) print(`warn ${line}`);
    };
    if (outcome === null) {
      coordinator.giveUp();
      killAll();
      const loss = lossOf(await progressOf(run.runDir)) ?? 'nothing is lost';
      print(`stopped without saving: ${loss}`);
      tellOfLeftBehind(true);
      return EXIT.unsaved;
    }
    // Those that have not joined yet would wait for a coordinator. What stands for a worker elsewhere ends with it.
    for (const worker of local) worker.process.kill('SIGTERM');
    workers.endUntold();
    adopted.stop();
    await allExited();
    tellOfLeftBehind(outcome.code !== EXIT.done);
    if (outcome.code !== null) return outcome.code;
    // A signal ends a coordinator that does not handle it yet; no training had begun.
    const stopCode = stopCodeOf(outcome);
    if (stopCode !== null) {
      print(stoppedEarly(stopReason(outcome.signal as StopSignal)));
      return stopCode;
    }
    const { checkpoint } = await progressOf(run.runDir);
    const from = checkpoint === null ? 'the first step' : `the checkpoint of step ${checkpoint.step}`;
    throw new OrchestratorError(
      'ERR_COORDINATOR_LOST',
      `The coordinator (pid ${coordinator.child.pid}) ${describeExit(exits.of(outcome))}`,
      `The same command resumes from ${from} (--resume auto, the default)`,
    );
  } finally {
    killAll();
    // What a process wrote at its end is shown, too.
    await allExited();
    process.off('exit', killAll);
    await screen.close();
  }
}

/** A host that is down is tried again and again: those that have ended are forgotten. */
function keepWhileRunning(children: Child[], child: Child): void {
  children.push(child);
  void child.exited.then(() => children.splice(children.indexOf(child), 1));
}

interface StopOptions {
  /** Whether the coordinator is there and takes signals. */
  isPresent: () => boolean;
  /** Whether another one comes if it is not. */
  mayReturn: () => boolean;
  print: (line: string) => void;
}

/**
 * Passes signals on to the coordinator, the first of the processes, which stops the run in order. `unsaved`
 * resolves with null when Ctrl-C is pressed again, to stop at once. Nothing else shortens an orderly end: not
 * the same signal from several senders, and not the two SIGINTs of a terminal and of a program above it.
 * `first` is the first signal that was passed on, or will be to a coordinator that is being started again.
 */
function stopOnSignals(children: readonly Child[], { isPresent, mayReturn, print }: StopOptions) {
  let first: StopSignal | null = null;
  const unsaved = new Promise<null>((resolve) => {
    let interruptedAt: number | null = null;
    let told = false;
    onStopSignals((signal) => {
      const [coordinator] = children;
      if (coordinator === undefined) stopEarly(signal);
      if (!isPresent() && !mayReturn()) return;
      if (signal === 'SIGINT' && interruptedAt !== null) {
        if (performance.now() - interruptedAt >= AGAIN_MS) resolve(null);
        else if (!told) {
          told = true;
          const notice: LauncherNotice = { output: TOO_SOON };
          sendMessage(coordinator, notice, () => print(TOO_SOON));
        }
        return;
      }
      if (signal === 'SIGINT') {
        interruptedAt = performance.now();
        if (isPresent()) hintUnlessTaken(coordinator, print);
      }
      first ??= signal;
      if (isPresent()) coordinator.process.kill(signal);
      else {
        const hint = signal === 'SIGINT' ? '; Ctrl-C again ends it without saving' : '';
        print(`${stopReason(signal)}: the run stops when its coordinator is back${hint}`);
      }
    });
  });
  return { unsaved, first: () => first };
}

/** A coordinator says itself what a second Ctrl-C does, unless it hangs. */
function hintUnlessTaken(coordinator: Child, print: (line: string) => void): void {
  const timer = setTimeout(() => {
    const hint = `the coordinator (pid ${coordinator.pid}) does not answer; press Ctrl-C again to stop without saving`;
    if (isRunning(coordinator)) print(hint);
  }, AGAIN_MS).unref();
  coordinator.process.on('message', ({ stopping }: CoordinatorNotice) => {
    if (stopping) clearTimeout(timer);
  });
}

/**
 * Ctrl-Z suspends the run, with all its processes, and `fg`, `bg` or SIGCONT goes on with it. The children are
 * in sessions of their own, so the terminal's signals do not reach them. A coordinator that stood still forgives
 * the silence of its workers.
 */
function suspendTogether(children: readonly Child[], adopted: Adopted, screen: Screen): void {
  const signalAll = (signal: 'SIGSTOP' | 'SIGCONT') => {
    for (const child of children) if (isRunning(child)) signalGroup(child, signal);
    adopted.signal(signal);
  };
  process.on('SIGTSTP', () => {
    screen.print('the run is suspended; fg or bg goes on with it');
    signalAll('SIGSTOP');
    // Unlike SIGTSTP, it also stops a process that has no shell above it, whose children would stay suspended.
    process.kill(process.pid, 'SIGSTOP');
  });
  process.on('SIGCONT', () => {
    signalAll('SIGCONT');
    screen.continued();
  });
}
