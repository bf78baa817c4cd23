import { describe, expect, test } from 'vitest';
import type { Heartbeat } from '../../../src/rpc/proto.js';
import type { Action } from '../../../src/rule/events.js';
import {
  end,
  ended,
  HEARTBEAT,
  killed,
  prepared,
  ready,
  reason,
  Script,
  staged,
} from '../../support/rule-script.js';

describe('failures', () => {
  test('a lost worker is named, and the others go on', () => {
    const script = new Script().running();
    script.step(1);
    const actions = script.event({ type: 'lost', id: 'b', reason: 'its connection was reset' });
    const message = 'Lost rank 1 (pid 101 on h) at step 2: its connection was reset; 1 worker goes on';
    expect(actions[0]).toEqual({ type: 'warn', message });
    expect(script.state).toMatchObject({ phase: 'FORMING', generation: 6, places: [{ id: 'a' }] });
  });

  test('a worker that has finished may go', () => {
    const script = new Script().running();
    for (const step of [1, 2, 3, 4, 5, 6]) script.step(step);
    for (const id of ['a', 'b']) script.applied(id, 2);
    script.saved(2);
    script.finished('a', 6);
    script.saved(6);
    expect(script.event({ type: 'lost', id: 'a', reason: 'exited' })).toEqual([]);
  });

  test('a worker that is needed and does not come again is waited for as long as may be', () => {
    const script = new Script({ minWorkers: 2 }).running();
    script.event({ type: 'lost', id: 'b', reason: 'reset' });
    const wait = (ms: number) => {
      for (const stop = script.now + ms; script.now < stop; ) {
        script.now += 250;
        script.event({ type: 'heartbeat', id: 'a', heartbeat: HEARTBEAT });
        const actions = script.event({ type: 'tick' });
        if (actions.length > 0) return actions;
      }
      return [];
    };
    expect(wait(60_000)).toEqual([]);
    expect(reason(wait(250))).toBe('ERR_WORKER_LOST: Lost rank 1 (pid 101 on h) at step 1: reset');
  });

  test.each([false, true])(
    'whether the last worker is waited for that was lost, if it came by itself: %s',
    (came) => {
      const script = new Script({ workers: 1 });
      script.join('a');
      script.standby('a');
      script.join('b', [], '', came);
      script.standby('b');
      script.event({ type: 'exited', id: 'a', exit: killed('SIGKILL'), again: false });
      expect(script.state.places).toMatchObject([{ id: 'b' }]);
      script.event({ type: 'lost', id: 'b', reason: 'its connection was reset' });
      script.event({ type: 'tick' });
      expect(script.state.phase).toBe(came ? 'FAILED' : 'JOINING');
    },
  );

  test('processes that end before they join, and are not started again', () => {
    const script = new Script();
    script.event({ type: 'exited', id: 'a', exit: ended(1), again: false });
    script.event({ type: 'exited', id: 'b', exit: ended(1), again: false });
    script.now += 250;
    expect(reason(script.event({ type: 'tick' }))).toBe(
      'ERR_WORKER_LOST: worker b ended with exit code 1 before it joined',
    );
  });

  test.each([
    [ended(143), 143],
    [killed('SIGTERM'), 143],
    [killed('SIGUSR1'), 138],
  ])('a worker that a signal stops before the first step stops the run: %o', (exit, exitCode) => {
    for (const joined of [false, true]) {
      const script = new Script();
      if (joined) script.join('a');
      expect(end(script.event({ type: 'exited', id: 'a', exit, again: false }))).toMatchObject({
        exitCode,
        fault: null,
      });
      expect(script.state.phase).toBe('STOPPED');
    }
  });

  test('silence is death after 3 s; any message is a sign of life', () => {
    const script = new Script().running();
    const pass = (ms: number) => {
      let actions: Action[] = [];
      for (const stop = script.now + ms; script.now < stop; ) {
        script.now += 250;
        script.event({ type: 'heartbeat', id: 'a', heartbeat: HEARTBEAT });
        actions = script.event({ type: 'tick' });
        if (actions.length > 0) break;
      }
      return actions;
    };
    expect(pass(3_000)).toEqual([]);
    script.event({ type: 'heartbeat', id: 'b', heartbeat: HEARTBEAT });
    expect(pass(3_000)).toEqual([]);
    expect(pass(250)).toMatchObject([
      { type: 'cut', id: 'b' },
      { message: expect.stringMatching(/Lost rank 1 .* at step 1: no sign of life for 3\.3 s; 1 worker/) },
      ...Array(2).fill({}),
    ]);
  });

  test('a worker that joins a run that trains has the time to build that the others had', () => {
    const script = new Script({ maxWorkers: 3 }).running();
    script.join('c');
    const pass = (ms: number) => {
      let actions: Action[] = [];
      for (const stop = script.now + ms; script.now < stop && actions.length === 0; ) {
        script.now += 250;
        for (const id of ['a', 'b']) script.event({ type: 'heartbeat', id, heartbeat: HEARTBEAT });
        actions = script.event({ type: 'tick' });
      }
      return actions;
    };
    expect(pass(60_000)).toEqual([]);
    expect(pass(250)).toMatchObject([{ type: 'cut', id: 'c' }, { type: 'warn' }]);
    script.join('c');
    script.standby('c');
    expect(pass(3_000)).toEqual([]);
    expect(pass(250)).toMatchObject([{ type: 'cut', id: 'c' }, { type: 'warn' }]);
  });

  test('an answer of a worker without a place in the generation changes nothing', () => {
    const script = new Script({ maxWorkers: 3, checkpointEvery: 1 }).running();
    script.join('c');
    script.step(1);
    script.applied('a', 1);
    expect(script.applied('c', 1, 'other')).toEqual([]);
    script.applied('b', 1);
    expect(script.saved(1)).toEqual([{ type: 'publish', saved: staged(1) }]);
  });

  test('a pause of the coordinator itself kills nobody', () => {
    const script = new Script().running();
    script.now += 60_000;
    expect(script.event({ type: 'tick' })).toEqual([]);
    // Nor does the pause count as time of the step, whose limit is half an hour.
    script.now += 3_600_000;
    expect(script.event({ type: 'tick' })).toEqual([]);
  });

  test('heartbeats alone are no progress', () => {
    const script = new Script().running();
    const wait = (ms: number) => {
      for (const stop = script.now + ms; script.now < stop; ) {
        script.now += 500;
        for (const id of ['a', 'b']) script.event({ type: 'heartbeat', id, heartbeat: HEARTBEAT });
        const actions = script.event({ type: 'tick' });
        if (actions.length > 0) return actions;
      }
      return [];
    };
    // The first step may take long; the second has a limit.
    expect(wait(600_000)).toEqual([]);
    script.step(1);
    script.event({ type: 'prepared', id: 'a', prepared: prepared(2, [0]) });
    expect(wait(119_000)).toEqual([]);
    expect(wait(5_000)).toMatchObject([
      { type: 'cut', id: 'b' },
      { message: expect.stringMatching(/rank 1 .* did not compute step 2 within 12\d s; 1 worker goes on/) },
      { type: 'journal' },
      { type: 'send' },
    ]);
  });

  test('where nobody gets on the run ends: every worker would hang there', () => {
    const script = new Script().running();
    script.step(1);
    let actions: Action[] = [];
    while (actions.length === 0) {
      script.now += 500;
      for (const id of ['a', 'b']) script.event({ type: 'heartbeat', id, heartbeat: HEARTBEAT });
      actions = script.event({ type: 'tick' });
    }
    expect(reason(actions)).toMatch(
      /ERR_PROGRESS: rank 0 .*, rank 1 .* did not compute step 2 within 12\d s/,
    );
  });

  describe('what workers are at', () => {
    /** Half seconds in which both are heard, and a tick follows; ends early when something happens. */
    const pass = (script: Script, ms: number, a: () => Heartbeat, b: () => Heartbeat) => {
      for (const stop = script.now + ms; script.now < stop; ) {
        script.now += 500;
        script.event({ type: 'heartbeat', id: 'a', heartbeat: a() });
        script.event({ type: 'heartbeat', id: 'b', heartbeat: b() });
        const actions = script.event({ type: 'tick' });
        if (actions.length > 0) return actions;
      }
      return [];
    };
    const at = (stage: Heartbeat['stage'], ticks: number) => () => ({ ...HEARTBEAT, stage, ticks });
    let done = 0;
    const works = () => ({ ...HEARTBEAT, stage: 'COMPUTE' as const, ticks: ++done });

    test('one whose work stands is named once, and lives; others that work or wait are not', () => {
      const script = new Script().running();
      expect(pass(script, 10_000, works, at('UPDATE', 7))).toEqual([]);
      expect(pass(script, 1_000, works, at('UPDATE', 7))).toEqual([
        {
          type: 'warn',
          message:
            'rank 1 (pid 101 on h) has not got on with the update for 11 s; if it hangs, its watchdog ends it',
        },
      ]);
      expect(pass(script, 60_000, works, at('UPDATE', 7))).toEqual([]);
      expect(pass(script, 60_000, at('IDLE', 8), at('WAIT', 8))).toEqual([]);
      // The next time it is named again, but not where this process was paused.
      script.now += 60_000;
      expect(script.event({ type: 'tick' })).toEqual([]);
      expect(pass(script, 10_000, works, at('EXCHANGE', 9))).toEqual([]);
      script.now += 60_000;
      expect(script.event({ type: 'tick' })).toEqual([]);
      expect(pass(script, 1_000, works, at('EXCHANGE', 9))).toMatchObject([
        { message: expect.stringContaining('got on with the exchange of gradients for 11 s') },
      ]);
    });

    test('the first slot of a GPU may take longer', () => {
      const script = new Script().running();
      expect(pass(script, 100_000, works, at('COMPUTE', 7))).toEqual([]);
      expect(pass(script, 1_000, works, at('COMPUTE', 7))).toMatchObject([
        { message: expect.stringContaining('got on with computing for 101 s') },
      ]);
      pass(script, 1_000, works, at('COMPUTE', 8));
      expect(pass(script, 11_000, works, at('COMPUTE', 8))).toMatchObject([
        { message: expect.stringContaining('got on with computing for 11 s') },
      ]);
    });

    test('a step lasts as long as a worker that it waits for gets on', () => {
      const script = new Script().running();
      script.step(1);
      script.event({ type: 'prepared', id: 'a', prepared: prepared(2, [0]) });
      expect(pass(script, 600_000, at('IDLE', 1), works)).toEqual([]);
      expect(pass(script, 119_000, works, at('IDLE', 1))).toEqual([]);
      expect(pass(script, 5_000, works, at('IDLE', 1))).toContainEqual({
        type: 'cut',
        id: 'b',
        reason: expect.stringMatching(/^did not compute step 2 within 7\d\d s$/),
      });
    });

    test('of one that is silent the last work is told', () => {
      const script = new Script().running();
      pass(script, 500, works, works);
      for (const stop = script.now + 3_000; script.now < stop; ) {
        script.now += 500;
        script.event({ type: 'heartbeat', id: 'a', heartbeat: works() });
        expect(script.event({ type: 'tick' })).toEqual([]);
      }
      script.now += 500;
      script.event({ type: 'heartbeat', id: 'a', heartbeat: works() });
      expect(script.event({ type: 'tick' })[0]).toEqual({
        type: 'cut',
        id: 'b',
        isSilent: true,
        reason: 'no sign of life for 3.5 s (it was last at computing)',
      });
    });
  });

  test('workers that do not come', () => {
    const script = new Script({ minWorkers: 2 });
    script.join('a');
    let actions: Action[] = [];
    while (actions.length === 0 && script.now < 100_000) {
      script.now += 500;
      script.event({ type: 'heartbeat', id: 'a', heartbeat: HEARTBEAT });
      actions = script.event({ type: 'tick' });
    }
    expect(reason(actions)).toBe('ERR_JOIN_TIMEOUT: 1 of 2 workers joined within 60 s');
  });

  test('a signal to a worker that is needed stops the run', () => {
    const script = new Script({ minWorkers: 2 }).running();
    script.event({ type: 'leave', id: 'b', leave: { exitCode: 138 } });
    script.step(1);
    script.checkpoint(1);
    expect(end(script.finish(1))).toMatchObject({
      exitCode: 138,
      reason: 'received SIGUSR1 (first heard from rank 1 (pid 101 on h))',
    });
  });

  test('the exit code that a worker asks for is believed only if a signal leads to it', () => {
    for (const exitCode of [0, 1, 256, -1]) {
      const script = new Script();
      script.join('a');
      const actions = script.event({ type: 'leave', id: 'a', leave: { exitCode } });
      expect(end(actions)).toMatchObject({ exitCode: 143 });
    }
  });

  describe('in a run that outlives its workers', () => {
    test('if too few are left and no others come, those that are left save what they hold, and the run has failed', () => {
      const script = new Script({ minWorkers: 2 }).running();
      script.step(1);
      script.event({ type: 'lost', id: 'b', reason: 'reset' });
      expect(script.state.phase).toBe('JOINING');
      // Another process may still take its place.
      script.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: true });
      script.now += 250;
      expect(script.event({ type: 'tick' })).toEqual([]);
      script.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: false });
      script.now += 250;
      script.event({ type: 'tick' });
      expect(script.state).toMatchObject({ phase: 'FORMING', places: [{ id: 'a' }] });
      const device = null;
      script.event({ type: 'formed', id: 'a', formed: { device, sharing: null, held: { step: 1 } } });
      const [start] = script.event({ type: 'ready', id: 'a', ready: ready({ step: 1 }) }).slice(-1);
      expect(start).toMatchObject({ message: { start: { step: 1, checkpoint: true, stop: true } } });
      script.event({ type: 'finished', id: 'a', finished: {} });
      script.applied('a', 1);
      script.saved(1);
      const published = { step: 1, path: 'step-1', seconds: 1, stallSeconds: 0, bytes: 1 };
      expect(end(script.event({ type: 'published', checkpoint: published }))).toMatchObject({
        exitCode: 1,
        fault: {
          code: 'ERR_WORKER_LOST',
          message: 'worker b was killed by SIGKILL before it joined (out of memory?)',
          hint: 'The last checkpoint is that of step 1: `--resume auto`, the default, resumes from it',
        },
      });
    });

    test('who builds while others train may be silent for as long as before the first step', () => {
      const script = new Script({ maxWorkers: 3 }).running();
      script.join('c');
      const silentFor = (seconds: number) => {
        for (let i = 0; i < 4 * seconds; i++) {
          script.now += 250;
          for (const id of ['a', 'b']) script.event({ type: 'heartbeat', id, heartbeat: HEARTBEAT });
          const cut = script.event({ type: 'tick' }).find(({ type }) => type === 'cut');
          if (cut) return cut;
        }
        return null;
      };
      expect(silentFor(59)).toBeNull();
      expect(silentFor(2)).toMatchObject({ type: 'cut', id: 'c' });
      expect(script.state.phase).toBe('RUNNING');
    });

    test('the next generation has the time to finish a step that it computes', () => {
      const script = new Script().running();
      script.event({ type: 'lost', id: 'b', reason: 'reset' });
      const phaseAfter = (seconds: number) => {
        for (let i = 0; i < 4 * seconds; i++) {
          script.now += 250;
          script.event({ type: 'heartbeat', id: 'a', heartbeat: HEARTBEAT });
          script.event({ type: 'tick' });
        }
        return script.state.phase;
      };
      expect(phaseAfter(1_790)).toBe('FORMING');
      expect(phaseAfter(20)).toBe('FAILED');
    });
  });

  test('of three, one whose sum differs is left out, and the step is run again', () => {
    const script = new Script({ workers: 3, maxWorkers: 3 });
    for (const id of ['a', 'b', 'c']) script.join(id);
    for (const id of ['a', 'b', 'c']) script.standby(id);
    for (const id of ['a', 'b', 'c']) {
      script.event({ type: 'formed', id, formed: { device: null, sharing: null, held: null } });
    }
    for (const id of ['a', 'b', 'c']) script.event({ type: 'ready', id, ready: ready() });
    script.event({ type: 'prepared', id: 'a', prepared: prepared(1, [0]) });
    script.event({ type: 'prepared', id: 'b', prepared: prepared(1, [1], { gradientNorm: 1.25 }) });
    const actions = script.event({ type: 'prepared', id: 'c', prepared: prepared(1, [2]) });
    const reason = "has the gradient's norm 1.25 at step 1, but the others 1.5";
    expect(actions.slice(0, 2)).toEqual([
      { type: 'cut', id: 'b', reason },
      { type: 'warn', message: `rank 1 (pid 101 on h) ${reason}; 2 workers go on` },
    ]);
    expect(script.state).toMatchObject({ phase: 'FORMING', places: [{ id: 'a' }, { id: 'c' }] });
  });

  test('a record that cannot be written ends the run without a commit', () => {
    const script = new Script().running();
    const fault = { code: 'ERR_FILE_WRITE', message: 'full', hint: 'Free some space' } as const;
    const actions = script.event({ type: 'actionFailed', fault });
    // What is on the disk is what the user can go on from.
    const hint = 'Free some space. There is no checkpoint yet: the same command starts from the beginning';
    expect(end(actions)?.fault).toEqual({ ...fault, hint });
    expect(actions.some(({ type }) => type === 'commit')).toBe(false);
  });
});
