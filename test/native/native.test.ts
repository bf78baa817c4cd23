/**
 * Every C++ test as a test of its own, in a process of its own: `npx vitest run --project native -t
 * 'layer_norm|MM-DiT'`. ORCHESTRATOR_ORCH_TEST names another program than build/orch_test, with what starts
 * it, where that is of another architecture.
 */
import { type ExecFileException, execFile, execFileSync } from 'node:child_process';
import { test } from 'vitest';

const [program, ...before] = (process.env.ORCHESTRATOR_ORCH_TEST ?? 'build/orch_test').split(' ') as [
  string,
  ...string[],
];

/** The signal or exit code of a failure, and what was printed. */
function run(name: string, signal: AbortSignal): Promise<{ failure: string | null; output: string }> {
  return new Promise((resolve) => {
    const ended = (error: ExecFileException | null, stdout: string, stderr: string) =>
      resolve({ failure: error && (error.signal ?? `exit code ${error.code}`), output: stdout + stderr });
    execFile(program, [...before, '--exact', name], { signal }, ended);
  });
}

const names = execFileSync(program, [...before, '--list'], { encoding: 'utf8' })
  .trimEnd()
  .split('\n');

for (const name of names) {
  test.concurrent(name, async ({ expect, signal, skip }) => {
    const { failure, output } = await run(name, signal);
    expect(failure, output).toBeNull();
    const reason = /^skip .* \[(.*)\]$/m.exec(output)?.[1];
    skip(reason !== undefined, reason);
  });
}
