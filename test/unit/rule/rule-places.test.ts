import { describe, expect, test } from 'vitest';
import type { Action, Settings } from '../../../src/rule/events.js';
import { killed, prepared, ready, Script, SETTINGS, sent } from '../../support/rule-script.js';

describe('workers of machines that do not see the run folder', () => {
  const formed = { device: null, sharing: null, held: null };
  const state = { metadata: Buffer.from('{}'), moments: [], ema: false, stallSeconds: 0 };
  /** A run of two workers that do not see the folder, after the step at which a checkpoint is due. */
  const afterStep2 = (settings: Partial<Settings> = {}) => {
    const script = new Script(settings);
    for (const id of ['a', 'b']) script.join(id);
    for (const id of ['a', 'b']) script.standby(id, true);
    for (const id of ['a', 'b']) script.event({ type: 'formed', id, formed });
    for (const id of ['a', 'b']) script.event({ type: 'ready', id, ready: ready() });
    for (const step of [1, 2]) script.step(step);
    return script;
  };

  test('come behind those that do, and get the checkpoint from them', () => {
    const script = new Script({ resumePath: 'step-2', resumeStep: 2 });
    for (const id of ['a', 'b']) script.join(id);
    script.standby('a', true);
    script.standby('b');
    expect(script.state.places.map(({ id }) => id)).toEqual(['b', 'a']);
    script.event({ type: 'formed', id: 'a', formed });
    expect(sent(script.event({ type: 'formed', id: 'b', formed }))).toMatchObject([
      { to: ['b'], message: { sync: { checkpoint: 'step-2' } } },
      { to: ['a'], message: { sync: { holders: { step: 2, ranks: [0] } } } },
    ]);
  });

  test('without any that does: the coordinator writes what rank 0 offers', () => {
    const script = afterStep2();
    const offered = { step: 2, number: 7, ...state };
    const declined = (id: string) => [{ type: 'send', to: [id], message: { declined: { number: 7 } } }];
    expect(script.event({ type: 'offered', id: 'b', offered })).toMatchObject(declined('b'));
    expect(script.event({ type: 'offered', id: 'a', offered })).toMatchObject([
      { type: 'fetch', member: { id: 'a', dataAddress: 'a:1' }, offered },
    ]);
    // Twice is once: the state arrives already.
    expect(script.event({ type: 'offered', id: 'a', offered })).toEqual([]);
    // A transfer of another time that has broken.
    const fault = { code: 'ERR_CHECKPOINT_WRITE', message: 'broken', hint: null } as const;
    expect(script.event({ type: 'notFetched', fetch: 0, fault })).toEqual([]);
    for (const id of ['b', 'a']) script.applied(id, 2);
    expect(script.saved(2)).toMatchObject([...declined('a'), { type: 'publish' }]);
    expect(script.event({ type: 'offered', id: 'a', offered })).toMatchObject(declined('a'));
    script.published(2);
    expect(script.state.checkpoint).toEqual({ step: 2, path: 'step-2' });
    expect(script.event({ type: 'offered', id: 'a', offered })).toMatchObject(declined('a'));
    expect(script.event({ type: 'notFetched', fetch: 1, fault })).toEqual([]);
  });

  test('what a worker has offered since its transfer broke is fetched, also after another generation', () => {
    const script = afterStep2({ minWorkers: 1 });
    const offer = (number: number) =>
      script.event({ type: 'offered', id: 'a', offered: { step: 2, number, ...state } });
    expect(offer(1)).toMatchObject([{ type: 'fetch', fetch: 1 }]);
    expect(offer(2)).toEqual([]);
    // A message that comes late, and twice.
    expect(offer(1)).toEqual([]);
    script.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: false });
    script.event({ type: 'formed', id: 'a', formed: { ...formed, held: { step: 2 } } });
    expect(sent(script.event({ type: 'ready', id: 'a', ready: ready({ step: 2 }) }))).toMatchObject([
      { message: { start: { step: 2, checkpoint: true } } },
    ]);
    const fault = { code: 'ERR_CHECKPOINT_WRITE', message: 'broken', hint: null } as const;
    expect(script.event({ type: 'notFetched', fetch: 1, fault })).toMatchObject([
      { type: 'fetch', fetch: 2, offered: { number: 2 } },
    ]);
    // It breaks again, and this time nothing was offered since.
    expect(script.event({ type: 'notFetched', fetch: 2, fault })).toMatchObject([
      { message: { declined: { number: 2 } } },
      { type: 'notSaved' },
    ]);
    expect(offer(3)).toMatchObject([{ message: { declined: { number: 3 } } }]);
  });

  test('one that cannot be reached, or offers the state of another run, does not go on offering it', () => {
    const script = afterStep2();
    const offered = { step: 2, number: 7, ...state };
    const given = [{ to: ['a'], message: { declined: { number: 7 } } }, { type: 'notSaved' }];
    script.event({ type: 'offered', id: 'a', offered });
    const fault = { code: 'ERR_CHECKPOINT_WRITE', message: 'no answer', hint: null } as const;
    expect(script.event({ type: 'notFetched', fetch: 1, fault })).toMatchObject(given);
    const other = afterStep2();
    other.event({ type: 'offered', id: 'a', offered });
    expect(other.notSaved(2)).toMatchObject(given);
  });

  test('share memory as others do: rank 0 gets the checkpoint from the coordinator', () => {
    const script = new Script({ mustShare: true, resumePath: 'step-2', resumeStep: 2 });
    for (const id of ['a', 'b']) script.join(id);
    for (const id of ['a', 'b']) script.standby(id, true);
    const formed = { device: null, held: null, sharing: { problem: '' } };
    script.event({ type: 'formed', id: 'a', formed });
    const sync = { served: { step: 2 }, shared: true };
    expect(sent(script.event({ type: 'formed', id: 'b', formed }))).toMatchObject([
      { to: ['a'], message: { sync } },
      { to: ['b'], message: { sync } },
    ]);
  });

  test('go on with the memory that they share when the one is gone that saw it, and offer their state', () => {
    const script = new Script();
    for (const id of ['a', 'b']) script.join(id);
    script.standby('a');
    script.standby('b', true);
    const formed = { device: null, held: null, sharing: { problem: '' } };
    for (const id of ['a', 'b']) script.event({ type: 'formed', id, formed });
    for (const id of ['a', 'b']) script.event({ type: 'ready', id, ready: ready() });
    script.step(1);
    script.event({ type: 'exited', id: 'a', exit: killed('SIGKILL'), again: false });
    const [sync] = sent(script.event({ type: 'formed', id: 'b', formed }));
    expect(sync).toMatchObject({ to: ['b'], message: { sync: { initialise: {}, shared: true } } });
    script.event({ type: 'ready', id: 'b', ready: ready({ step: 1 }) });
    expect(script.state.phase).toBe('RUNNING');
    const orders = { step: 2, checkpoint: true };
    const prepares = script.event({ type: 'prepared', id: 'b', prepared: prepared(2, [0, 1, 2]) });
    expect(sent(prepares)).toMatchObject([{ message: { commit: orders } }]);
    const offered = { step: 2, number: 1, ...state };
    expect(script.event({ type: 'offered', id: 'b', offered })).toMatchObject([{ type: 'fetch' }]);
  });
});

describe('a worker that computes with other instructions', () => {
  const refusals = (actions: Action[]) =>
    actions.flatMap((action) => (action.type === 'refuse' ? [[action.id, action.message]] : []));

  test('is refused, and the others begin without it', () => {
    const script = new Script({ minWorkers: 1 });
    for (const id of ['a', 'b']) script.join(id);
    script.standby('a');
    const actions = script.standby('b', false, 'isa avx512');
    expect(refusals(actions)).toEqual([
      ['b', expect.stringContaining('it computes with isa avx512, and the others with isa avx2')],
    ]);
    expect(script.state.places.map(({ id }) => id)).toEqual(['a']);
  });

  test('is refused while the run trains, which is not disturbed', () => {
    const script = new Script({ maxWorkers: 3 }).running();
    const { generation } = script.state;
    script.join('c');
    expect(refusals(script.standby('c', false, 'isa avx512'))).toHaveLength(1);
    expect(script.event({ type: 'lost', id: 'c', reason: 'it ended its session' })).toEqual([]);
    expect(script.state).toMatchObject({ generation, phase: 'RUNNING' });
    expect(refusals(script.join('c'))).toEqual([]);
    expect(refusals(script.standby('c'))).toEqual([]);
  });

  test('is told the way in which it could take part', () => {
    const why = (others: string, own: string) => {
      const script = new Script({ minWorkers: 1 });
      for (const id of ['a', 'b']) script.join(id);
      script.standby('a', false, others);
      return refusals(script.standby('b', false, own))[0]![1];
    };
    expect(why('isa avx2', 'isa avx512')).toContain('Start it again: it then computes with avx2');
    expect(why('isa avx512, probe 1', 'isa avx512, probe 2')).toContain(
      'other bits for the same instructions',
    );
    expect(why('isa avx512', 'isa avx512, kernels 2')).toContain('same version of the program');
  });

  test('is told of the instruction set when it joins, and cannot change that of a run that goes on', () => {
    const script = new Script({ minWorkers: 1, welcome: { ...SETTINGS.welcome, isa: 'avx2' } });
    expect(sent(script.join('a'))).toMatchObject([{ message: { welcome: { isa: 'avx2' } } }]);
    script.join('b');
    expect(refusals(script.standby('a', false, 'isa avx512'))).toHaveLength(1);
    const [journal] = script.standby('b');
    expect(journal).toMatchObject({ type: 'journal', arithmetic: 'isa avx2' });
    expect(sent(new Script({ maxWorkers: 3 }).running().join('c'))).toMatchObject([
      { message: { welcome: { isa: 'avx2' } } },
    ]);
  });

  test('sets what others compute with if nobody waits any more who came before', () => {
    const script = new Script({ minWorkers: 1, workers: 2 });
    script.join('a');
    script.standby('a', false, 'isa avx512');
    script.event({ type: 'lost', id: 'a', reason: 'it ended its session' });
    script.join('b');
    expect(refusals(script.standby('b'))).toEqual([]);
  });
});
