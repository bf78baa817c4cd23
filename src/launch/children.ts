/** Child processes that can always be killed together with the processes that they started. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface Child {
  /** "coordinator", "worker 1" */
  name: string;
  pid: number;
  process: ChildProcess;
  /** Resolves when the process has ended and all its output has been read. */
  exited: Promise<Exit>;
}

/**
 * Starts a command in a process group of its own, so that signals of the terminal reach only the launcher,
 * and killing the group also kills grandchildren.
 */
export async function start(
  name: string,
  command: readonly string[],
  environment: Record<string, string>,
  stdio: StdioOptions,
): Promise<Child> {
  const [file, ...parameters] = command as [string, ...string[]];
  const child = spawn(file, parameters, { detached: true, env: { ...process.env, ...environment }, stdio });
  await once(child, 'spawn');
  const exited = once(child, 'close').then(([code, signal]) => ({ code, signal }) as Exit);
  return { name, pid: child.pid!, process: child, exited };
}

export function isRunning({ process: child }: Child): boolean {
  return child.exitCode === null && child.signalCode === null;
}

/** Sends a message, or calls `otherwise` if the child has ended, noticed or not (EPIPE). */
export function sendMessage({ process: child }: Child, message: object, otherwise = () => {}): void {
  child.send(message, (error) => {
    if (error !== null) otherwise();
  });
}

/** Sends SIGKILL to the whole group, and does nothing if it no longer exists. */
export function killGroup(child: Child): void {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // The group no longer exists.
  }
}

export function describeExit({ code, signal }: Exit): string {
  return signal === null ? `ended with exit code ${code}` : `was killed by ${signal}`;
}

/** Passes on a child's output line by line, with its name before each line. */
export function prefixLines(child: Child, write: (line: string) => void): void {
  for (const stream of [child.process.stdout, child.process.stderr]) {
    let rest = '';
    stream?.setEncoding('utf8');
    stream?.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) write(`[${child.name}] ${line}`);
    });
    stream?.on('end', () => {
      if (rest !== '') write(`[${child.name}] ${rest}`);
    });
  }
}
