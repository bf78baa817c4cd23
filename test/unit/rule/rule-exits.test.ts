import { describe, expect, test } from 'vitest';
import type { Action, Event } from '../../../src/rule/events.js';
import type { Exit } from '../../../src/signals.js';
import { end, ended, killed, Script, sent } from '../../support/rule-script.js';

describe('ends of processes, which the launcher tells', () => {
  const lost: Event = { type: 'lost', id: 'b', reason: 'its connection was reset' };
  const exited = (again: boolean): Event => ({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again });

  test('tells what the end of a session has meant, and who it was', () => {
    const script = new Script().running();
    script.step(1);
    script.event(lost);
    const message = 'rank 1 (pid 101 on h) was killed by SIGKILL at step 2 (out of memory?)';
    expect(script.event(exited(true))).toEqual([{ type: 'warn', message }]);
  });

  test('one that only its ssh has seen is no end of its process', () => {
    const unknown = { code: null, signal: null, outOfMemory: false };
    const says = (pid: number | null) => {
      const script = new Script().running();
      script.step(1);
      script.event(lost);
      return script.event({ type: 'exited', id: 'b', pid, exit: unknown, again: true });
    };
    const elsewhere = 'rank 1 (pid 101 on h) is lost at step 2; whether its process has ended is not known';
    expect(says(null)).toEqual([{ type: 'warn', message: elsewhere }]);
    // One of this machine was watched, though its exit code is its parent's.
    expect(says(101)).toEqual([{ type: 'warn', message: 'rank 1 (pid 101 on h) has ended at step 2' }]);
  });

  test('may come first', () => {
    const script = new Script().running();
    for (const step of [1, 2]) script.step(step);
    const [note] = script.event({ type: 'exited', id: 'b', exit: killed('SIGSEGV'), again: true });
    const message = 'rank 1 (pid 101 on h) crashed with SIGSEGV at step 3; 1 worker goes on';
    expect(note).toEqual({ type: 'warn', message });
    expect(script.event(lost)).toEqual([]);
  });

  test.each([
    [ended(143), 'note', 'worker b (pid 101 on h) has left'],
    [killed('SIGTERM'), 'note', 'worker b (pid 101 on h) has left'],
    [killed('SIGSEGV'), 'warn', 'worker b crashed with SIGSEGV'],
  ])('is no warning where the worker was let go: %j', (exit, type, message) => {
    const script = new Script({ maxWorkers: 3 }).running();
    script.event({ type: 'leave', id: 'b', leave: { exitCode: 143 } });
    expect(sent(script.step(1))).toContainEqual(expect.objectContaining({ to: ['b'] }));
    const gone = (): Action[] => script.event({ type: 'exited', id: 'b', exit, again: false });
    expect(gone()).toEqual([{ type, message }]);
    // It is let go once: the end of another process of that name is not expected.
    expect(gone()).toMatchObject([{ type: 'warn' }]);
  });

  test('of a worker that came back and was let go, the end of its former session is forgotten', () => {
    const script = new Script({ maxWorkers: 3 }).running();
    script.step(1);
    script.event(lost);
    script.join('b');
    script.event({ type: 'leave', id: 'b', leave: { exitCode: 143 } });
    const gone = (exit: Exit) => script.event({ type: 'exited', id: 'b', exit, again: false });
    expect(gone(ended(143))).toEqual([{ type: 'note', message: 'worker b (pid 101 on h) has left' }]);
    const [note] = gone(killed('SIGSEGV'));
    expect(note).toMatchObject({ message: expect.stringMatching(/^worker b crashed with SIGSEGV/) });
  });

  test('says nothing of a member that is another process', () => {
    const script = new Script().running();
    const of = (pid: number): Event => ({ ...exited(false), pid }) as Event;
    expect(script.event(of(9))).toEqual([
      {
        type: 'warn',
        message: 'another process of rank 1 (pid 101 on h), pid 9, was killed by SIGKILL (out of memory?)',
      },
    ]);
    expect(script.state.phase).toBe('RUNNING');
    expect(script.event(of(101))).toContainEqual(expect.objectContaining({ type: 'journal' }));
  });

  test('is why a run ends that needs the worker, and has nothing to save', () => {
    const script = new Script({ minWorkers: 2, resumePath: 'runs/x/c', resumeStep: 3 }).running(3);
    script.event(lost);
    expect(script.state.phase).toBe('JOINING');
    script.event(exited(false));
    script.now += 250;
    expect(end(script.event({ type: 'tick' }))?.fault).toMatchObject({
      code: 'ERR_WORKER_LOST',
      message: 'rank 1 (pid 101 on h) was killed by SIGKILL at step 4 (out of memory?)',
      hint: 'No checkpoint was written since the run was resumed: the same command resumes from runs/x/c (step 3)',
    });
  });
});
