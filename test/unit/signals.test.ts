import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { PHASES } from '../../src/rule/events.js';
import { describeExit, onStopSignals, SIGNAL_EXIT, stopCodeOf } from '../../src/signals.js';

test.each([
  [{ code: 1, signal: null, outOfMemory: false }, 'ended with exit code 1 at step 9'],
  [
    { code: 70, signal: null, outOfMemory: false },
    'hung at step 9 and was ended by its watchdog: a kernel, a copy of the state or the event loop stood still (exit code 70)',
  ],
  [{ code: null, signal: 'SIGKILL', outOfMemory: false }, 'was killed by SIGKILL at step 9 (out of memory?)'],
  [{ code: null, signal: 'SIGKILL', outOfMemory: true }, 'was killed by SIGKILL at step 9 (out of memory)'],
  [{ code: null, signal: 'SIGSEGV', outOfMemory: false }, 'crashed with SIGSEGV at step 9'],
  [{ code: null, signal: 'SIGXCPU', outOfMemory: false }, 'was killed by SIGXCPU at step 9'],
] as const)('how a process ended: %o', (exit, text) => {
  expect(describeExit(exit, ' at step 9')).toBe(text);
});

test('a signal that stops runs and its exit code mean the same, other ends mean none', () => {
  for (const [signal, code] of Object.entries(SIGNAL_EXIT)) {
    expect(stopCodeOf({ code: null, signal: signal as NodeJS.Signals })).toBe(code);
    expect(stopCodeOf({ code, signal: null })).toBe(code);
  }
  expect(stopCodeOf({ code: null, signal: 'SIGKILL' })).toBeNull();
  for (const code of [0, 1, 70, 137]) expect(stopCodeOf({ code, signal: null })).toBeNull();
});

test('the newest listener takes every signal every time, in place of the one before', async () => {
  const taken: string[] = [];
  const received = async (signal: NodeJS.Signals) => {
    const count = taken.length;
    process.kill(process.pid, signal);
    while (taken.length === count) await new Promise((resolve) => setImmediate(resolve));
  };
  onStopSignals((signal) => taken.push(`old ${signal}`));
  await received('SIGUSR2');
  onStopSignals((signal) => taken.push(signal));
  for (const signal of ['SIGUSR2', 'SIGHUP', 'SIGUSR2'] as const) await received(signal);
  for (const signal of Object.keys(SIGNAL_EXIT)) {
    expect(process.listenerCount(signal)).toBe(1);
    process.removeAllListeners(signal);
  }
  expect(taken).toEqual(['old SIGUSR2', 'SIGUSR2', 'SIGHUP', 'SIGUSR2']);
});

test('every phase of a run is in the guide', () => {
  const guide = readFileSync('docs/guide/training.md', 'utf8');
  for (const phase of PHASES) expect(guide).toContain(`\`${phase}\``);
});

test('what `orchestrator` passes to Node.js is what the processes of a run get', () => {
  const option = /--inspect-port=\S+/
    .exec(readFileSync('src/launch/processes.ts', 'utf8'))![0]
    .replace(/';$/, '');
  expect(readFileSync('orchestrator', 'utf8')).toContain(`options=(${option})`);
});
