import { describe, expect, test } from 'vitest';
import type { Action, Event, Settings } from '../../../src/rule/events.js';
import { end, HEARTBEAT, ready, reason, Script, sent, staged } from '../../support/rule-script.js';

describe('checkpoints', () => {
  const missed = (actions: Action[]) =>
    actions.flatMap((action) => (action.type === 'notSaved' ? [action.missed] : []));
  /** A run whose step 2 is committed, with its checkpoint requested. */
  const requested = (changes: Partial<Settings> = {}) => {
    const script = new Script(changes).running();
    script.step(1);
    expect(sent(script.step(2))[0]?.message.commit?.checkpoint).toBe(true);
    return script;
  };
  const publish = [{ type: 'publish', saved: staged(2) }];

  test('are published when all workers hold the state that rank 0 has staged, whichever comes last', () => {
    const slowDisk = requested();
    expect(slowDisk.applied('b', 2)).toEqual([]);
    expect(slowDisk.applied('a', 2)).toEqual([]);
    expect(slowDisk.saved(2)).toEqual(publish);
    const slowWorker = requested();
    expect(slowWorker.applied('a', 2)).toEqual([]);
    expect(slowWorker.saved(2)).toEqual([]);
    expect(slowWorker.applied('b', 2)).toEqual(publish);
  });

  test('of a state that is not the same everywhere are not published, and the run ends', () => {
    const script = requested();
    script.applied('a', 2, 'x');
    script.saved(2);
    const actions = script.applied('b', 2, 'y');
    expect(actions.map(({ type }) => type)).toEqual(['send', 'end']);
    expect(reason(actions)).toMatch(
      /ERR_STATE_MISMATCH: The state of rank 1 .* and of rank 0 .* differ after step 2; its checkpoint is discarded/,
    );
    expect(script.saved(2)).toEqual([]);
  });

  test('a state that differs is found also where the checkpoint could not be written', () => {
    const script = requested();
    script.notSaved(2);
    script.applied('a', 2, 'x');
    expect(reason(script.applied('b', 2, 'y'))).toContain('ERR_STATE_MISMATCH');
  });

  test('the hint names what the same command resumes from', () => {
    const hintOf = (script: Script, step: number) => {
      script.applied('a', step, 'x');
      return end(script.applied('b', step, 'y'))?.fault?.hint;
    };
    expect(hintOf(requested(), 2)).toMatch(
      /\. There is no checkpoint yet: the same command starts from the beg/,
    );
    const second = requested();
    second.checkpoint(2);
    second.step(3);
    second.step(4);
    expect(hintOf(second, 4)).toMatch(
      /\. The last checkpoint is that of step 2: `--resume auto`, the default, resumes from it/,
    );
    const resumed = new Script({ resumePath: 'runs/x/checkpoints/step-00000003', resumeStep: 3 });
    resumed.join('a');
    resumed.join('b');
    for (const id of ['a', 'b']) resumed.standby(id);
    for (const id of ['a', 'b'])
      resumed.event({ type: 'formed', id, formed: { device: null, sharing: null, held: null } });
    for (const id of ['a', 'b']) resumed.event({ type: 'ready', id, ready: ready({ step: 3 }) });
    resumed.step(4);
    expect(hintOf(resumed, 4)).toContain('resumes from runs/x/checkpoints/step-00000003 (step 3)');
  });

  test('one that fails is a warning, and the next is requested when it is due', () => {
    const script = requested();
    expect(missed(script.notSaved(2))).toEqual([
      {
        step: 2,
        reason: 'failed',
        fault: {
          code: 'ERR_CHECKPOINT_WRITE',
          message: 'full',
          hint: 'Free some space. Training goes on. There is no checkpoint yet: the same command starts from the beginning',
        },
      },
    ]);
    script.applied('a', 2);
    expect(script.applied('b', 2)).toEqual([]);
    script.step(3);
    expect(sent(script.step(4))[0]?.message.commit?.checkpoint).toBe(true);
    expect(script.checkpoint(4)).toEqual([]);
  });

  test('one that is staged and cannot be published is a warning, too', () => {
    const script = requested();
    script.applied('a', 2);
    script.applied('b', 2);
    script.saved(2);
    const fault = { code: 'ERR_CHECKPOINT_WRITE', message: 'gone', hint: null } as const;
    const [what] = missed(script.event({ type: 'notPublished', step: 2, fault }));
    expect(what).toMatchObject({ step: 2, reason: 'failed', fault: { message: 'gone' } });
    expect(script.state.phase).toBe('RUNNING');
  });

  test('one that is due while another is being written is left out with a warning', () => {
    const script = requested();
    script.applied('a', 2);
    script.applied('b', 2);
    script.step(3);
    const actions = script.step(4);
    expect(sent(actions)[0]?.message.commit?.checkpoint).toBe(false);
    expect(missed(actions)).toMatchObject([
      { step: 4, reason: 'skipped', fault: { message: expect.stringContaining('that of step 2 is still') } },
    ]);
    expect(script.saved(2)).toEqual(publish);
    script.published(2);
    script.step(5);
    expect(sent(script.step(6))[0]?.message.commit?.checkpoint).toBe(true);
  });

  test('the last is written also where another is still being written, and the end waits for it', () => {
    const script = requested({ steps: 4 });
    script.applied('a', 2);
    script.applied('b', 2);
    script.step(3);
    expect(sent(script.step(4))[0]?.message.commit).toMatchObject({ checkpoint: true, stop: true });
    expect(script.saved(2)).toEqual(publish);
    script.applied('a', 4);
    script.applied('b', 4);
    expect(script.saved(4)).toEqual([]);
    script.validated('a', 4);
    expect(script.validated('b', 4)).toContainEqual({ type: 'publish', saved: staged(4) });
    expect(script.finish(4)).toEqual([]);
    expect(script.published(2)).toEqual([]);
    expect(end(script.published(4))).toMatchObject({ exitCode: 0, fault: null });
  });

  test('one is published when all have validated its step, because who resumes from it does not', () => {
    const script = new Script({ checkpointEvery: 3 }).running();
    for (const step of [1, 2, 3]) script.step(step);
    script.validated('a', 3);
    script.applied('a', 3);
    expect(script.saved(3)).toEqual([]);
    expect(script.applied('b', 3)).toEqual([]);
    // The record of the validation is on disk before the checkpoint has its name.
    expect(script.validated('b', 3).map(({ type }) => type)).toEqual([
      'validation',
      'syncRecords',
      'publish',
    ]);
  });

  describe('one that is staged when a worker is lost that has not validated its step', () => {
    const staging = () => {
      const script = new Script({ checkpointEvery: 3 }).running();
      for (const step of [1, 2, 3]) script.step(step);
      for (const id of ['a', 'b']) script.applied(id, 3);
      script.validated('a', 3);
      expect(script.saved(3)).toEqual([]);
      return script;
    };
    const loses = (script: Script, id: string) => script.event({ type: 'lost', id, reason: 'reset' });
    const published = { type: 'publish', saved: staged(3) };
    /** The next generation starts with what is left. */
    const goesOn = (script: Script) => {
      script.event({ type: 'formed', id: 'a', formed: { device: null, sharing: null, held: { step: 3 } } });
      return script.event({ type: 'ready', id: 'a', ready: ready({ step: 3 }) });
    };

    test('waits for those that are left, which validate it again', () => {
      const script = staging();
      expect(loses(script, 'b')).not.toContainEqual(published);
      const started = goesOn(script);
      expect(sent(started)[0]?.message.start).toMatchObject({ step: 3, validate: true, checkpoint: false });
      expect(started).not.toContainEqual(published);
      expect(script.validated('a', 3)).toContainEqual(published);
    });

    test('is published without where the run stops', () => {
      const script = staging();
      loses(script, 'b');
      script.event({ type: 'stop', exitCode: 143, reason: 'received SIGTERM' });
      const started = goesOn(script);
      expect(sent(started)[0]?.message.start).toMatchObject({ validate: false, stop: true });
      expect(started).toContainEqual(published);
    });

    test('is published without where nobody is left who holds the state', () => {
      const script = staging();
      loses(script, 'b');
      expect(loses(script, 'a')).toContainEqual(published);
    });

    test('is published without where the run fails', () => {
      const failure = { code: 'ERR_DATA_ROW', message: 'row 7', hint: '' };
      const actions = staging().event({ type: 'failure', id: 'b', failure });
      expect(actions.map(({ type }) => type)).toEqual(['publish', 'send', 'end']);
    });
  });

  test('the failure of the last is that of the run; that of the one before is not', () => {
    const script = requested({ steps: 4 });
    script.applied('a', 2);
    script.applied('b', 2);
    script.step(3);
    script.step(4);
    expect(missed(script.notSaved(2))).toMatchObject([{ step: 2 }]);
    expect(end(script.notSaved(4))).toMatchObject({
      exitCode: 1,
      fault: {
        code: 'ERR_CHECKPOINT_WRITE',
        message: 'full',
        hint: 'Free some space. There is no checkpoint yet: the same command starts from the beginning',
      },
    });
    expect(script.state.phase).toBe('FAILED');
  });

  test('the failure of the last waits for one that is being published, from which the run resumes', () => {
    const script = requested({ steps: 4 });
    script.applied('a', 2);
    script.applied('b', 2);
    script.saved(2);
    script.step(3);
    script.step(4);
    expect(script.notSaved(4)).toEqual([]);
    const published: Event = { type: 'published', checkpoint: { ...staged(2), path: 'p', bytes: 1 } };
    expect(end(script.event(published))?.fault?.hint).toContain('The last checkpoint is that of step 2:');
  });

  test('that nobody requested, or of another rank, are not published', () => {
    const script = requested();
    for (const id of ['a', 'b']) script.applied(id, 2);
    expect([script.saved(1), script.notSaved(1), script.saved(2, 'b')]).toEqual([[], [], []]);
    expect(script.saved(2)).toEqual(publish);
  });

  /** Time passes, in which the workers are heard, until the run does something. */
  const wait = (script: Script, ms: number, { writing }: { writing: boolean }) => {
    for (const stop = script.now + ms; script.now < stop; ) {
      script.now += 1_000;
      for (const id of ['a', 'b']) script.event({ type: 'heartbeat', id, heartbeat: HEARTBEAT });
      if (writing) script.event({ type: 'saving', id: 'a', saving: {} });
      const actions = script.event({ type: 'tick' });
      if (actions.length > 0) return actions;
    }
    return [];
  };
  const stalled = (seconds: number) => ({
    type: 'warn',
    message: `rank 0 (pid 101 on h) has not got on with the checkpoint of step 2 for ${seconds} s: look at the disk of the run folder. No other is written until then`,
  });

  test('the last may take as long as its writing goes on', () => {
    const script = requested({ steps: 2 });
    for (const id of ['a', 'b']) script.applied(id, 2);
    script.validated('a', 2);
    script.finished('b', 2);
    expect(wait(script, 7_200_000, { writing: true })).toEqual([]);
    expect(wait(script, 7_200_000, { writing: false })).toEqual([stalled(121)]);
    const message =
      'rank 0 (pid 101 on h) did not finish after the last step within 1801 s; 1 worker goes on';
    expect(wait(script, 7_200_000, { writing: false })).toContainEqual({ type: 'warn', message });
  });

  test('the user is told once of one that does not get on, and again if it got on meanwhile', () => {
    const script = requested({ steps: 2 });
    for (const id of ['a', 'b']) script.applied(id, 2);
    // The step is validated before its checkpoint is written, for as long as that takes.
    expect(wait(script, 300_000, { writing: false })).toEqual([]);
    for (const id of ['a', 'b']) script.validated(id, 2);
    expect(wait(script, 300_000, { writing: true })).toEqual([]);
    expect(wait(script, 300_000, { writing: false })).toEqual([stalled(121)]);
    expect(wait(script, 300_000, { writing: false })).toEqual([]);
    expect(wait(script, 300_000, { writing: true })).toEqual([]);
    expect(wait(script, 300_000, { writing: false })).toEqual([stalled(121)]);
    expect(script.saved(2)).toEqual(publish);
  });

  test('a pause of the coordinator does not count as a standstill of the disk', () => {
    const script = requested({ steps: 2 });
    for (const id of ['a', 'b']) script.validated(id, 2);
    expect(wait(script, 100_000, { writing: false })).toEqual([]);
    script.now += 600_000;
    expect(wait(script, 15_000, { writing: false })).toEqual([]);
    expect(wait(script, 10_000, { writing: false })).toEqual([stalled(121)]);
  });
});
