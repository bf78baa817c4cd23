/** The kinds of faults with which a soak disturbs a run. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LEFT_MS, lives, type SoakRun } from './soak-run.js';

export interface FaultKind {
  name: string;
  /**
   * Resolves when the fault is over, or no more can be done about it.
   *
   * @param who Which worker, in [0, 1).
   * @param lastsMs How long, if it is a state.
   */
  disturb(run: SoakRun, who: number, lastsMs: number): void | Promise<void>;
}

/** A process whose files may not grow beyond this has a full disk. */
const FULL_BYTES = 1_000_000;

const KINDS: readonly FaultKind[] = [
  { name: 'kill', disturb: (run, who) => send(oneOf(run, who), 'SIGKILL') },
  {
    name: 'kill two',
    disturb: (run) => {
      for (const pid of pidsOf(run).slice(0, 2)) send(pid, 'SIGKILL');
    },
  },
  { name: 'stop and continue', disturb: (run, who, ms) => pause([oneOf(run, who)], ms) },
  { name: 'join', disturb: (run) => run.join() },
  { name: 'drain', disturb: drain },
  { name: 'coordinator kill', disturb: (run) => send(run.coordinator, 'SIGKILL') },
  { name: 'coordinator stop', disturb: (run, _, ms) => pause([run.coordinator], ms) },
  { name: 'all stop', disturb: (run, _, ms) => pause([run.coordinator, ...pidsOf(run)], ms) },
];

/** The kinds that this machine can have, and why it lacks others. */
export function availableKinds(): { kinds: readonly FaultKind[]; missing: string[] } {
  if (!isProgram('prlimit')) return { kinds: KINDS, missing: ['disk full (needs prlimit, of util-linux)'] };
  return { kinds: [...KINDS, { name: 'disk full', disturb: fillDisk }], missing: [] };
}

function isProgram(name: string): boolean {
  const folders = (process.env.PATH ?? '').split(':');
  return folders.some((folder) => existsSync(join(folder, name)));
}

function pidsOf(run: SoakRun): number[] {
  return run.workers.map(({ pid }) => pid);
}

function oneOf(run: SoakRun, who: number): number | null {
  const pids = pidsOf(run);
  return pids[Math.floor(who * pids.length)] ?? null;
}

function send(pid: number | null, signal: NodeJS.Signals): void {
  try {
    if (pid !== null) process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

async function pause(pids: readonly (number | null)[], ms: number): Promise<void> {
  for (const pid of pids) send(pid, 'SIGSTOP');
  await sleep(ms);
  for (const pid of pids) send(pid, 'SIGCONT');
}

/** Tells a worker to leave that has joined by itself; one joins where there is none. */
async function drain(run: SoakRun, who: number): Promise<void> {
  const members = run.workers.filter(({ pid }) => lives(pid));
  const strangers = members.filter(({ id }) => id.startsWith(`${hostname()}-`));
  // The last one that leaves would end the run in order, so the others must live until it is gone.
  if (strangers.length === 0 || members.length === 1) return run.join();
  const { pid } = strangers[Math.floor(who * strangers.length)]!;
  send(pid, 'SIGTERM');
  for (const end = performance.now() + LEFT_MS; lives(pid) && performance.now() < end; ) await sleep(10);
}

/** To a process whose files may not grow, the disk is full. */
async function fillDisk(run: SoakRun, _: number, ms: number): Promise<void> {
  const writers = pidsOf(run);
  for (const pid of writers) limitFiles(pid, FULL_BYTES);
  await sleep(ms);
  for (const pid of writers) limitFiles(pid, 'unlimited');
}

function limitFiles(pid: number, bytes: number | 'unlimited'): void {
  try {
    execFileSync('prlimit', ['--pid', String(pid), `--fsize=${bytes}:unlimited`], { stdio: 'ignore' });
  } catch {
    // It has ended.
  }
}
