/** Runs a coordinator and its workers, passes on what they report, and ends them together. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { OrchestratorError } from '../errors.js';
import { onStopSignals, SIGNAL_EXIT, type StopSignal } from '../signals.js';
import { type Child, describeExit, isRunning, killGroup, prefixLines, sendMessage } from './children.js';
import type { Launcher } from './launcher.js';
import { local } from './local.js';
import {
  coordinatorProcess,
  ENVIRONMENT,
  type LaunchOptions,
  workerProcess,
  workersOf,
} from './processes.js';

/** Time limit for the workers to exit after the coordinator has exited. */
const SHUTDOWN_MS = 3_000;

/** A message from the coordinator to the launcher. */
export interface CoordinatorNotice {
  listening: string;
}

/** A message from the launcher to the coordinator. */
export interface LauncherNotice {
  /** A worker's process has ended. */
  exited?: { workerId: string; exit: string };
  /**
   * A line that a worker printed. The coordinator prints it, because it owns the terminal and its live table.
   */
  output?: string;
}

/** Runs to the end, and returns the exit code. */
export async function superviseRun(run: LaunchOptions, launcher: Launcher): Promise<number> {
  const secrets = { [ENVIRONMENT.token]: randomBytes(24).toString('hex') };
  const children: Child[] = [];
  const killAll = () => {
    for (const child of children) if (isRunning(child)) killGroup(child);
  };
  process.on('exit', killAll);
  let received: StopSignal | null = null;
  const removeSignalHandlers = onStopSignals((signal) => {
    const [coordinator] = children;
    if (coordinator === undefined || !isRunning(coordinator)) process.exit(SIGNAL_EXIT[signal]);
    received = signal;
    coordinator.process.kill(signal);
  });
  try {
    const streams = ['ignore', 'inherit', 'inherit', 'ipc'] as const;
    const coordinator = await local.start(coordinatorProcess(run), secrets, [...streams]);
    children.push(coordinator);
    const address = await listening(coordinator);
    for (let index = 0; address !== null && index < workersOf(run) && isRunning(coordinator); index++) {
      const spec = workerProcess(run, index, address);
      const worker = await launcher.start(spec, secrets);
      children.push(worker);
      reportTo(coordinator, worker, spec.environment[ENVIRONMENT.workerId]!);
    }
    const outcome = await coordinator.exited;
    await Promise.race([
      Promise.all(children.map(({ exited }) => exited)),
      sleep(SHUTDOWN_MS, null, { ref: false }),
    ]);
    if (outcome.code !== null) return outcome.code;
    // A signal ends a coordinator that does not handle it yet; no training had begun.
    if (received !== null && outcome.signal === received) return SIGNAL_EXIT[received];
    throw new OrchestratorError(
      'ERR_COORDINATOR_LOST',
      `The coordinator (pid ${coordinator.pid}) ${describeExit(outcome)}`,
      'Run the same command again to resume from the last checkpoint',
    );
  } finally {
    killAll();
    process.off('exit', killAll);
    removeSignalHandlers();
  }
}

/** The coordinator's address, or null if it ended first (it has printed why). */
function listening(coordinator: Child): Promise<string | null> {
  return new Promise((resolve) => {
    coordinator.process.once('message', (notice: CoordinatorNotice) => resolve(notice.listening));
    coordinator.process.once('exit', () => resolve(null));
  });
}

/** Tells the coordinator what a worker prints, and that it has ended. */
function reportTo(coordinator: Child, worker: Child, workerId: string): void {
  prefixLines(worker, (output) => {
    const notice: LauncherNotice = { output };
    sendMessage(coordinator, notice, () => process.stderr.write(`${output}\n`));
  });
  worker.process.once('exit', (code, signal) => {
    // The coordinator knows the rank, and whether the run was over.
    const notice: LauncherNotice = { exited: { workerId, exit: describeExit({ code, signal }) } };
    sendMessage(coordinator, notice);
  });
}
