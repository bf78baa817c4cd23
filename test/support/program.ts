/** The compiled program, run to its end. */
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { expect } from 'vitest';

export const MAIN = resolve('dist/cli/main.js');

export interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface Surroundings {
  /** What it reads from its standard input. */
  input?: string;
  cwd?: string;
  /** Beside the environment of the tests. */
  env?: NodeJS.ProcessEnv;
  /** Another Node.js than that of the tests. */
  node?: string;
}

export function orchestrator(...parameters: string[]): Ended {
  return orchestratorIn({}, ...parameters);
}

export function orchestratorIn(
  { cwd, env, input, node = process.execPath }: Surroundings,
  ...parameters: string[]
): Ended {
  const { status, stdout, stderr } = spawnSync(node, [MAIN, ...parameters], {
    encoding: 'utf8',
    ...(cwd === undefined ? {} : { cwd }),
    ...(input === undefined ? {} : { input }),
    env: { ...process.env, ...env },
    // A program that does not end fails its test.
    timeout: 300_000,
  });
  return { status, stdout: withoutTimes(stdout), stderr };
}

/** What a run prints, without the time before each line. */
export function withoutTimes(text: string): string {
  return text.replaceAll(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d /gm, '');
}

/** What it prints; its exit code must be 0. */
export function succeeds({ status, stdout, stderr }: Ended): string {
  expect(status, stderr).toBe(0);
  return stdout;
}
