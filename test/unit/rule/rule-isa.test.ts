/** The instruction set of a run on CPUs: until the first generation the best that all have who have joined. */
import { describe, expect, test } from 'vitest';
import type { Action } from '../../../src/rule/events.js';
import { Script, SETTINGS, sent } from '../../support/rule-script.js';

const BEST = ['avx512', 'avx2', 'generic'];
const LESS = ['avx2', 'generic'];

const refusals = (actions: Action[]) =>
  actions.flatMap((action) => (action.type === 'refuse' ? [[action.id, action.message]] : []));
const warnings = (actions: Action[]) =>
  actions.flatMap((action) => (action.type === 'warn' ? [action.message] : []));
/** Whom a message welcomes, and with which instruction set: "a b: avx2". */
const welcomes = (actions: Action[]) =>
  sent(actions).flatMap(({ to, message }) =>
    message.welcome ? [`${to?.join(' ')}: ${message.welcome.isa}`] : [],
  );

describe('before the first generation', () => {
  test('a worker that has less lowers it, and the others build again, whether they stand by or not', () => {
    const script = new Script({ workers: 3, maxWorkers: 3 });
    expect(welcomes(script.join('a', BEST))).toEqual(['a: avx512']);
    expect(welcomes(script.join('b', BEST))).toEqual(['b: avx512']);
    expect(script.standby('a', false, 'isa avx512')).toEqual([]);
    const lowered = script.join('c', LESS);
    expect(welcomes(lowered)).toEqual(['a b c: avx2']);
    expect(warnings(lowered)).toEqual([
      'all workers compute with avx2, the best that worker c (pid 101 on h) may use',
    ]);

    // What b says was under way.
    expect(script.standby('b', false, 'isa avx512')).toEqual([]);
    for (const id of ['c', 'a']) expect(script.standby(id)).toEqual([]);
    const [journal, form] = script.standby('b');
    expect(journal).toMatchObject({ type: 'journal', arithmetic: 'isa avx2' });
    expect(form).toMatchObject({ message: { form: { members: [{ id: 'a' }, { id: 'b' }, { id: 'c' }] } } });
  });

  test('a worker that has more is told of what the others have, and the user once, because of whom', () => {
    const script = new Script({ workers: 3, maxWorkers: 3 });
    expect(warnings(script.join('a', LESS))).toEqual([]);
    const second = script.join('b', BEST);
    expect(welcomes(second)).toEqual(['b: avx2']);
    expect(warnings(second)).toEqual([
      'all workers compute with avx2, the best that worker a (pid 101 on h) may use',
    ]);
    expect(warnings(script.join('c', BEST))).toEqual([]);
  });

  test('it is lowered more than once, also to what a user asks for', () => {
    const script = new Script({ workers: 3, maxWorkers: 3 });
    script.join('a', BEST);
    script.join('b', LESS);
    expect(script.standby('a', false, 'isa avx512')).toEqual([]);
    const lowered = script.join('c', BEST, 'generic');
    expect(welcomes(lowered)).toEqual(['a b c: generic']);
    expect(warnings(lowered)[0]).toBe(
      'all workers compute with generic, the only one that worker c (pid 101 on h) may use',
    );
    for (const isa of ['avx512', 'avx2']) expect(script.standby('a', false, `isa ${isa}`)).toEqual([]);
    for (const id of ['a', 'b', 'c']) script.standby(id, false, 'isa generic');
    expect(script.state.places).toHaveLength(3);
  });

  test('a lower one stays when the worker is gone, and others are there; else the next one decides', () => {
    const script = new Script();
    script.join('a', BEST);
    script.join('b', LESS);
    script.event({ type: 'lost', id: 'b', reason: 'reset' });
    expect(welcomes(script.join('b', BEST))).toEqual(['b: avx2']);
    for (const id of ['a', 'b']) script.event({ type: 'lost', id, reason: 'reset' });
    expect(welcomes(script.join('a', BEST))).toEqual(['a: avx512']);
    expect(welcomes(script.join('b', BEST))).toEqual(['b: avx512']);
    script.standby('a', false, 'isa avx512');
    expect(script.standby('b', false, 'isa avx512')[0]).toMatchObject({ arithmetic: 'isa avx512' });
  });

  test('what all workers of the launch have is where it begins, and no demand: others may have less', () => {
    const script = new Script({ workers: 2, maxWorkers: 3, instructionSets: LESS });
    // The launch has told of it.
    const first = script.join('a', BEST);
    expect([welcomes(first), warnings(first)]).toEqual([['a: avx2'], []]);
    const lowered = script.join('c', ['generic']);
    expect([welcomes(lowered), refusals(lowered)]).toEqual([['a c: generic'], []]);
    expect(warnings(lowered)).toEqual([
      'all workers compute with generic, the best that worker c (pid 101 on h) may use',
    ]);
    // Where all are gone it begins there again.
    for (const id of ['a', 'c']) script.event({ type: 'lost', id, reason: 'reset' });
    expect(welcomes(script.join('a', BEST))).toEqual(['a: avx2']);
    const onGpus = new Script({ instructionSets: LESS, onGpus: true });
    expect(welcomes(onGpus.join('a', BEST))).toEqual(['a: ']);
  });

  test('a worker that has been in a generation of another coordinator keeps what it has', () => {
    const script = new Script();
    expect(welcomes(script.join('a', BEST, 'avx2'))).toEqual(['a: avx2']);
    expect(welcomes(script.join('b', BEST))).toEqual(['b: avx2']);
    expect(refusals(script.join('b', ['generic']))).toEqual([['b', expect.stringContaining('isa avx2')]]);
  });

  test('without one in common, the worker that has joined later is refused, and the others begin', () => {
    const script = new Script();
    script.join('a', BEST);
    script.standby('a', false, 'isa avx512');
    const actions = script.join('b', ['neon']);
    expect(refusals(actions)).toEqual([['b', expect.stringContaining('no instruction set in common')]]);
    expect(script.state.places.map(({ id }) => id)).toEqual(['a']);
  });

  test('one that is to use what its processor lacks decides nothing: it ends by itself', () => {
    const script = new Script();
    expect(welcomes(script.join('a', BEST, 'avx1024'))).toEqual(['a: ']);
    expect(welcomes(script.join('b', BEST))).toEqual(['b: avx512']);
  });
});

describe('after it', () => {
  const forming = (isa: string, sets: string[]) => {
    const script = new Script({ maxWorkers: 3 });
    for (const id of ['a', 'b']) script.join(id, sets);
    for (const id of ['a', 'b']) script.standby(id, false, `isa ${isa}`);
    return script;
  };

  test('a worker that has less is refused before it builds, with the way in which it could take part', () => {
    const why = (sets: string[], asked = '') => {
      const [[id, message] = []] = refusals(forming('avx512', BEST).join('c', sets, asked));
      expect([id, message]).toEqual(['c', expect.stringContaining('the others compute with isa avx512, so')]);
      return message;
    };
    expect(why(LESS)).toContain('ORCHESTRATOR_ISA=avx2 before the same command');
    expect(why(['neon'])).toContain('no instruction set in common');
    expect(why(BEST, 'generic')).toContain('again, without ORCHESTRATOR_ISA=generic');
  });

  test('a worker that has more takes it on', () => {
    expect(welcomes(forming('avx2', LESS).join('c', BEST))).toEqual(['c: avx2']);
  });
});

test('what a run is given from the start is not lowered', () => {
  const script = new Script({ welcome: { ...SETTINGS.welcome, isa: 'avx2' } });
  expect(welcomes(script.join('a', BEST))).toEqual(['a: avx2']);
  expect(refusals(script.join('b', ['generic']))).toHaveLength(1);
});

test('a stranger that is refused is none of those that the run waits for', () => {
  const script = new Script({ workers: 1, welcome: { ...SETTINGS.welcome, isa: 'avx2' } });
  expect(refusals(script.join('x', ['generic'], '', true))).toHaveLength(1);
  expect(script.event({ type: 'tick' })).toEqual([]);
  script.join('a', BEST);
  expect(script.standby('a')[0]).toMatchObject({ type: 'journal', workers: [{ id: 'a' }] });
});

test('on GPUs the processors do not matter', () => {
  const script = new Script({ onGpus: true });
  expect(welcomes([...script.join('a', BEST), ...script.join('b', ['neon'])])).toEqual(['a: ', 'b: ']);
  for (const id of ['a', 'b']) script.standby(id, false, 'device H100');
  expect(script.state.places).toHaveLength(2);
});
