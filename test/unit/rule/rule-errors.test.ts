import { describe, expect, test } from 'vitest';
import { end, HEARTBEAT, ready, Script } from '../../support/rule-script.js';

describe('a broken link between two workers', () => {
  const suspects = (script: Script, id: string, rank: number) =>
    script.event({ type: 'suspect', id, suspect: { rank, why: 'the exchange broke' } });
  const pass = (script: Script, ms: number, ...heard: string[]) => {
    for (const stop = script.now + ms; script.now < stop; ) {
      script.now += 250;
      for (const id of heard) script.event({ type: 'heartbeat', id, heartbeat: HEARTBEAT });
      const actions = script.event({ type: 'tick' });
      if (actions.length > 0) return actions;
    }
    return [];
  };
  const runs = (script: Script, step: number, ...ids: string[]) => {
    for (const id of ids)
      script.event({ type: 'formed', id, formed: { device: null, sharing: null, held: { step } } });
    for (const id of ids) script.event({ type: 'ready', id, ready: ready({ step }) });
  };

  test('is connected again if both live; if it breaks again, the one that has come last is left out', () => {
    const script = new Script().running();
    script.step(1);
    const message = 'rank 0 (pid 101 on h): the exchange broke';
    expect(suspects(script, 'a', 1)).toEqual([{ type: 'warn', message }]);
    expect(pass(script, 2_000, 'a', 'b').map(({ type }) => type)).toEqual(['warn', 'journal', 'send']);
    expect(script.state).toMatchObject({ phase: 'FORMING', places: [{ id: 'a' }, { id: 'b' }] });
    runs(script, 1, 'a', 'b');
    suspects(script, 'b', 0);
    // The first to join was b.
    expect(pass(script, 2_000, 'a', 'b')).toContainEqual({
      type: 'cut',
      id: 'a',
      reason: 'cannot exchange gradients with the others',
    });
    expect(script.state).toMatchObject({ phase: 'FORMING', places: [{ id: 'b' }] });
  });

  test('is not connected again if one of them is not heard: it has died', () => {
    const script = new Script().running();
    suspects(script, 'a', 1);
    expect(pass(script, 3_000, 'a')).toEqual([]);
    expect(pass(script, 1_000, 'a')).toMatchObject([{ type: 'cut', id: 'b' }, {}, {}, {}]);
  });

  test('of three, the one with most broken links is left out', () => {
    const script = new Script({ workers: 3, maxWorkers: 3 });
    for (const id of ['b', 'c', 'a']) script.join(id);
    for (const id of ['a', 'b', 'c']) script.standby(id);
    runs(script, 0, 'a', 'b', 'c');
    suspects(script, 'a', 1);
    suspects(script, 'c', 1);
    pass(script, 2_000, 'a', 'b', 'c');
    runs(script, 0, 'a', 'b', 'c');
    suspects(script, 'b', 0);
    suspects(script, 'c', 1);
    // One that is reached, and cannot go on for another's sake.
    suspects(script, 'a', -1);
    pass(script, 2_000, 'a', 'b', 'c');
    expect(script.state.places).toMatchObject([{ id: 'a' }, { id: 'c' }]);
  });
});

describe('an error of a worker', () => {
  const failure = (code: string, hint = '') => ({ code, message: 'off', hint });

  test('that any worker would have ends the run, with its code and hint', () => {
    const fails = (code: string, hint: string) =>
      end(new Script().running().event({ type: 'failure', id: 'b', failure: failure(code, hint) }))?.fault;
    const message = 'rank 1 (pid 101 on h): off';
    const resumption = 'There is no checkpoint yet: the same command starts from the beginning';
    expect(fails('ERR_DATA_NON_FINITE', 'look')).toEqual({
      code: 'ERR_DATA_NON_FINITE',
      message,
      hint: `look. ${resumption}`,
    });
    expect(fails('ERR_PLAN', '')?.hint).toBe(resumption);
    expect(fails('ERR_OF_NOBODY', '')?.code).toBe('ERR_INTERNAL');
  });

  test('that is its own ends that worker, and the others go on', () => {
    const script = new Script().running();
    const actions = script.event({ type: 'failure', id: 'b', failure: failure('ERR_CUDA', 'turn it on') });
    expect(actions).toContainEqual({ type: 'cut', id: 'b', reason: 'ERR_CUDA: off (turn it on)' });
    expect(script.state).toMatchObject({ phase: 'FORMING', generation: 6, places: [{ id: 'a' }] });
  });

  test('that joins ends that worker, whatever it is: the others train', () => {
    const script = new Script({ maxWorkers: 3 }).running();
    script.join('c');
    script.event({ type: 'failure', id: 'c', failure: failure('ERR_DATA_HASH') });
    expect(script.state).toMatchObject({ phase: 'RUNNING', places: [{ id: 'a' }, { id: 'b' }] });
  });

  test('that is alone before the first step ends the run with its code', () => {
    const script = new Script();
    script.join('a');
    const actions = script.event({ type: 'failure', id: 'a', failure: failure('ERR_CUDA', 'turn it on') });
    expect(end(actions)?.fault).toMatchObject({ code: 'ERR_CUDA', hint: 'turn it on' });
  });

  test('that is its own, of the last one of a run that has begun, is as its death: it may come again', () => {
    const script = new Script({ workers: 1 });
    script.join('a');
    script.standby('a');
    script.event({ type: 'formed', id: 'a', formed: { device: null, sharing: null, held: null } });
    script.event({ type: 'ready', id: 'a', ready: ready() });
    script.event({ type: 'failure', id: 'a', failure: failure('ERR_OUT_OF_MEMORY') });
    expect(script.state.phase).toBe('JOINING');
  });
});
