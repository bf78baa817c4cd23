/** Runs a coordinator and its workers, passes on what they report, and ends them together. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ENDED } from '../coordinator/events.js';
import { lossOf, progressOf } from '../coordinator/progress.js';
import { EXIT, OrchestratorError } from '../errors.js';
import { faultLines, faultOf } from '../fault.js';
import { outOfMemoryKills } from '../memory/machine.js';
import {
  describeExit,
  type Exit,
  onStopSignals,
  type ProcessEnd,
  type StopSignal,
  stopCodeOf,
  stopEarly,
  stoppedEarly,
  stopReason,
} from '../signals.js';
import type { RelayMessage } from '../telemetry/relay.js';
import { Screen } from '../telemetry/screen.js';
import {
  type Child,
  isRunning,
  lineSender,
  passLines,
  prefixLines,
  sendMessage,
  signalGroup,
  startChild,
} from './children.js';
import type { Launcher } from './launcher.js';
import { Members } from './members.js';
import {
  coordinatorProcess,
  ENVIRONMENT,
  type LaunchOptions,
  workerProcess,
  workersOf,
} from './processes.js';
import { Restarts } from './restarts.js';

/** Time in which a worker that is started must have joined. */
const START_SECONDS = 900;
/** Time limit for the workers to exit after the coordinator has exited. */
const SHUTDOWN_MS = 3_000;
/**
 * A second SIGINT stops without saving if it comes at least this long after the first. A coordinator that has not
 * taken the first one until then may hang.
 */
const AGAIN_MS = 1_000;
const TOO_SOON =
  'still stopping in order: Ctrl-C counts again from one second after the first, to stop without saving';

/** A message from the coordinator to the launcher. */
export interface CoordinatorNotice extends RelayMessage {
  /** Workers may join: the credential of those of this machine. */
  listening?: string;
  /** It has taken a signal to stop, and tells the user what follows. */
  stopping?: true;
  /** A worker has joined, or has left or was lost. */
  member?: { workerId: string; isHere: boolean };
}

/** A message from the launcher to the coordinator. */
export interface LauncherNotice {
  /** A worker's process has ended, and is started again or not. */
  exited?: { workerId: string; exit: Exit; again: boolean };
  /** To a coordinator that was started again: this worker had ended for good before. */
  gone?: string;
  /** A line that a worker printed: the coordinator logs it, and sends it back to be shown in its place. */
  output?: string;
}

/** Runs to the end, and returns the exit code. */
export async function superviseRun(run: LaunchOptions, launcher: Launcher): Promise<number> {
  const children: Child[] = [];
  const local: Child[] = [];
  const killAll = () => {
    for (const child of children) if (isRunning(child)) signalGroup(child, 'SIGKILL');
  };
  process.on('exit', killAll);
  /** Processes of the control group that were killed for lack of memory, without those of which a worker's end told. */
  let killsKnown = outOfMemoryKills();
  // The terminal is the launcher's alone: no other process waits where it stands still.
  const screen = new Screen(process.stdout, process.stderr, process.env);
  const print = (line: string) => screen.print(line);
  let mayReturn = () => false;
  const { unsaved, first } = stopOnSignals(children, () => mayReturn(), print);
  suspendTogether(children, screen);
  try {
    let isOver = false;
    const startCoordinator = async (again: boolean): Promise<Child> => {
      const { name, command, environment } = coordinatorProcess(run, again);
      const started = await startChild(name, command, environment, ['ignore', 'pipe', 'pipe', 'ipc']);
      children[0] = started;
      started.process.on('message', (notice: CoordinatorNotice) => {
        if (notice.record?.[0] === 'phase') isOver = ENDED.has(notice.record[1]);
        screen.receive(notice);
      });
      passLines(started, print);
      return started;
    };
    let coordinator = await startCoordinator(false);
    /** Resolves with the credential of workers of this machine when the coordinator is there; null: it has ended. */
    let present = listening(coordinator);
    const isListening = (await Promise.race([present, unsaved])) !== null;
    // Before a process runs its first statement, Node.js takes SIGUSR1 for itself. Now it is heard.
    const early = first();
    if (early !== null && isRunning(coordinator)) coordinator.process.kill(early);
    // The coordinator logs what workers print, and sends it back to be shown in its place.
    const senderTo = (child: Child) => lineSender(child, (output): LauncherNotice => ({ output }), print);
    let tell = senderTo(coordinator);
    /** The coordinator has ended, and is not started again. */
    let hasEnded = false;
    const goesOn = () => !hasEnded && first() === null && !isOver;
    mayReturn = () => isListening && !hasEnded && !isOver;
    /** Workers that have ended for good, and those of which a coordinator was not told that they have ended. */
    const gone = new Set<string>();
    const untold: LauncherNotice[] = [];
    /** Starts the coordinator again when it has died, and returns how the last one has ended. */
    const keepCoordinator = async (): Promise<ProcessEnd> => {
      const restarts = new Restarts(run.maxRestarts);
      for (;;) {
        const ended = await coordinator.exited;
        const isMissed = ended.code === null && stopCodeOf(ended) === null && goesOn();
        const restart = isMissed ? restarts.next(performance.now()) : null;
        hasEnded = restart === null;
        if (restart === null) return ended;
        const why = `the coordinator (pid ${coordinator.pid}) ${describeExit(exitOf(ended))}`;
        const of = `start ${restart.count} of ${run.maxRestarts} in 10 minutes`;
        print(
          `${why}; it is started again in ${restart.delayMs / 1000} s (${of}), and the workers keep what they hold`,
        );
        let isBack = (_: string | null) => {};
        present = new Promise((resolve) => {
          isBack = resolve;
        });
        await sleep(restart.delayMs);
        if (hasEnded) return ended;
        coordinator = await startCoordinator(true);
        members.follow(coordinator);
        tell = senderTo(coordinator);
        const address = await listening(coordinator);
        isBack(address);
        for (const worker of gone) sendMessage(coordinator, { gone: worker } satisfies LauncherNotice);
        for (const notice of untold.splice(0)) sendMessage(coordinator, notice);
        const signal = first();
        if (signal !== null && isRunning(coordinator)) coordinator.process.kill(signal);
      }
    };
    const members = new Members();
    members.follow(coordinator);
    /** Starts a worker, and again when it has died while the run goes on. */
    const startWorker = async (index: number, restarts: Restarts): Promise<void> => {
      const address = await present;
      if (address === null) return;
      const spec = workerProcess(run, index);
      const workerId = spec.environment[ENVIRONMENT.workerId]!;
      const worker = await launcher.start(spec, await credentialOf(run, workerId, address));
      children.push(worker);
      if (spec.host.ssh === null) local.push(worker);
      prefixLines(worker, (line) => tell(line));
      const endOf = async (ended: ProcessEnd): Promise<ProcessEnd> => {
        if (launcher.hasEnded(spec, ended)) return ended;
        if (members.has(workerId) && goesOn()) {
          tell(`the connection to ${worker.name} is lost; the worker goes on without it`);
          await Promise.race([members.gone(workerId), kept]);
        }
        return { code: null, signal: null };
      };
      const onEnd = (ended: ProcessEnd) => {
        const isMissed = goesOn() && hasDied(ended);
        const restart = isMissed ? restarts.next(performance.now()) : null;
        // The coordinator knows the rank, and whether the run was over.
        const notice: LauncherNotice = { exited: { workerId, exit: exitOf(ended), again: restart !== null } };
        if (restart === null) gone.add(workerId);
        sendMessage(coordinator, notice, () => untold.push(notice));
        if (restart === null) {
          const why = `--max-restarts allows ${run.maxRestarts} in 10 minutes`;
          if (isMissed) tell(`${worker.name} is not started again: ${why}`);
          return;
        }
        const { delayMs, count } = restart;
        const of = `start ${count} of ${run.maxRestarts} in 10 minutes`;
        tell(`${worker.name} is started again in ${delayMs / 1000} s (${of})`);
        const again = async () => {
          await Promise.race([sleep(delayMs, null, { ref: false }), kept]);
          if (goesOn()) await startWorker(index, restarts);
        };
        again().catch((error) => {
          // It could not be started, which counts as a start.
          tell(`${worker.name}: ${faultLines(faultOf(error)).join('\n')}`);
          onEnd({ code: EXIT.failed, signal: null });
        });
      };
      worker.process.once('exit', (code, signal) => void endOf({ code, signal }).then(onEnd));
    };
    const kept = isListening ? keepCoordinator() : coordinator.exited;
    for (let index = 0; isListening && index < workersOf(run) && !hasEnded; index++) {
      await startWorker(index, new Restarts(run.maxRestarts));
    }
    const outcome = await Promise.race([kept, unsaved]);
    if (outcome === null) {
      hasEnded = true;
      killAll();
      const loss = lossOf(await progressOf(run.runDir)) ?? 'nothing is lost';
      print(`stopped without saving: ${loss}`);
      return EXIT.unsaved;
    }
    // Those that have not joined yet would wait for a coordinator. What stands for a worker elsewhere ends with it.
    for (const worker of local) worker.process.kill('SIGTERM');
    await Promise.race([
      Promise.all(children.map(({ exited }) => exited)),
      sleep(SHUTDOWN_MS, null, { ref: false }),
    ]);
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
      `The coordinator (pid ${coordinator.pid}) ${describeExit(exitOf(outcome))}`,
      `The same command resumes from ${from} (--resume auto, the default)`,
    );
  } finally {
    killAll();
    // What a process wrote at its end is shown, too.
    await Promise.race([
      Promise.all(children.map(({ exited }) => exited)),
      sleep(SHUTDOWN_MS, null, { ref: false }),
    ]);
    process.off('exit', killAll);
    await screen.close();
  }

  function exitOf(ended: ProcessEnd): Exit {
    const outOfMemory =
      ended.signal === 'SIGKILL' && killsKnown !== null && (outOfMemoryKills() ?? 0) > killsKnown;
    // Each explains one end, so that a later kill by somebody else is not taken for another.
    if (outOfMemory) killsKnown = killsKnown! + 1;
    return { ...ended, outOfMemory };
  }
}

/**
 * Passes signals on to the coordinator, the first of the processes, which stops the run in order. `unsaved`
 * resolves with null when Ctrl-C is pressed again, to stop at once. Nothing else shortens an orderly end: not
 * the same signal from several senders, and not the two SIGINTs of a terminal and of a program above it.
 * `first` is the first signal that was passed on, or will be to a coordinator that is being started again.
 */
function stopOnSignals(children: readonly Child[], mayReturn: () => boolean, print: (line: string) => void) {
  let first: StopSignal | null = null;
  const unsaved = new Promise<null>((resolve) => {
    let interruptedAt: number | null = null;
    let told = false;
    onStopSignals((signal) => {
      const [coordinator] = children;
      if (coordinator === undefined) stopEarly(signal);
      if (!isRunning(coordinator) && !mayReturn()) return;
      if (signal === 'SIGINT' && interruptedAt !== null) {
        if (performance.now() - interruptedAt >= AGAIN_MS) resolve(null);
        else if (!told) {
          told = true;
          const notice: LauncherNotice = { output: TOO_SOON };
          sendMessage(coordinator, notice);
        }
        return;
      }
      if (signal === 'SIGINT') {
        interruptedAt = performance.now();
        if (isRunning(coordinator)) hintUnlessTaken(coordinator, print);
      }
      first ??= signal;
      if (isRunning(coordinator)) coordinator.process.kill(signal);
      else print(`${stopReason(signal)}: the run stops when its coordinator is back`);
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
function suspendTogether(children: readonly Child[], screen: Screen): void {
  const signalAll = (signal: 'SIGSTOP' | 'SIGCONT') => {
    for (const child of children) if (isRunning(child)) signalGroup(child, signal);
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

/** The credential of workers of this machine, or null if the coordinator ended first (it has printed why). */
function listening(coordinator: Child): Promise<string | null> {
  return new Promise((resolve) => {
    coordinator.process.on('message', ({ listening }: CoordinatorNotice) => {
      if (listening !== undefined) resolve(listening);
    });
    coordinator.process.once('exit', () => resolve(null));
  });
}

/** Whether a worker that ended so is missed: it was killed, or has failed. One that was told to end, or cannot start, is not. */
function hasDied(ended: ProcessEnd): boolean {
  return ended.code !== EXIT.done && ended.code !== EXIT.usage && stopCodeOf(ended) === null;
}
