import { describe, expect, test } from 'vitest';
import type { Prepared } from '../../../src/rpc/proto.js';
import type { Action, Event } from '../../../src/rule/events.js';
import {
  end,
  ended,
  HEARTBEAT,
  prepared,
  ready,
  reason,
  Script,
  SETTINGS,
  sent,
} from '../../support/rule-script.js';

describe('from joining to running', () => {
  test('a generation is journalled before it is announced; ranks follow the ids, slots are contiguous', () => {
    const script = new Script();
    expect(script.join('b')).toEqual([
      { type: 'send', to: ['b'], message: { generation: 4, welcome: SETTINGS.welcome } },
    ]);
    expect(sent(script.join('a'))).toMatchObject([{ to: ['a'], message: { welcome: {} } }]);
    expect(script.standby('a')).toEqual([]);
    expect(script.state.phase).toBe('JOINING');
    const actions = script.standby('b');
    expect(actions.map(({ type }) => type)).toEqual(['journal', 'send']);
    expect(script.state.generation).toBe(5);
    expect(script.state.places).toMatchObject([
      { id: 'a', rank: 0, firstSlot: 0, endSlot: 1 },
      { id: 'b', rank: 1, firstSlot: 1, endSlot: 3 },
    ]);
    expect(sent(actions)).toMatchObject([
      { to: ['a', 'b'], message: { generation: 5, form: { members: [{ id: 'a' }, { id: 'b' }] } } },
    ]);
  });

  test('every phase waits for everybody', () => {
    const script = new Script();
    script.forming();
    const [one, other] = ['a', 'b'].map((gpu) => ({ gpu, library: 'NCCL', uniqueId: '', problem: '' }));
    expect(
      script.event({ type: 'formed', id: 'a', formed: { device: one!, sharing: null, held: null } }),
    ).toEqual([]);
    expect(script.state.phase).toBe('FORMING');
    const formed: Event = { type: 'formed', id: 'b', formed: { device: other!, sharing: null, held: null } };
    expect(sent(script.event(formed))[0]?.message.sync).toEqual({
      initialise: {},
      devices: [one, other],
      shared: false,
    });
    expect(script.state.phase).toBe('SYNCING');
    expect(script.event({ type: 'ready', id: 'a', ready: ready() })).toEqual([]);
    const actions = script.event({ type: 'ready', id: 'b', ready: ready() });
    expect(sent(actions)[0]?.message.start).toEqual({
      step: 0,
      validate: false,
      checkpoint: false,
      stop: false,
    });
    expect(script.state.phase).toBe('RUNNING');
  });

  test.each([
    [
      'config',
      { configHash: 'x' },
      'The config of rank 1 (pid 101 on h) is x, that of the coordinator config',
    ],
    [
      'data',
      { datasetHash: 'x' },
      'The data set of rank 1 (pid 101 on h) is x, that of rank 0 (pid 101 on h) data',
    ],
    ['state', { stateHash: 'x' }, 'The state of rank 1'],
    [
      'step',
      { step: 9 },
      'The step of the loaded state of rank 1 (pid 101 on h) is 9, that of the coordinator 0',
    ],
  ])('another %s refuses the run', (_, changes, message) => {
    const script = new Script();
    script.forming();
    for (const id of ['a', 'b'])
      script.event({ type: 'formed', id, formed: { device: null, sharing: null, held: null } });
    script.event({ type: 'ready', id: 'a', ready: ready() });
    const actions = script.event({ type: 'ready', id: 'b', ready: ready(changes) });
    expect(reason(actions)).toContain(`ERR_STATE_MISMATCH: ${message}`);
    expect(sent(actions)[0]?.message.stop).toMatchObject({ exitCode: 1 });
  });

  test('a resumed run goes on after its step', () => {
    const script = new Script({ resumePath: 'p', resumeStep: 4 });
    script.forming();
    for (const id of ['a', 'b'])
      script.event({ type: 'formed', id, formed: { device: null, sharing: null, held: null } });
    script.event({ type: 'ready', id: 'a', ready: ready({ step: 4 }) });
    const actions = script.event({ type: 'ready', id: 'b', ready: ready({ step: 4 }) });
    expect(sent(actions)[0]?.message.start).toMatchObject({ step: 4, stop: false });
  });

  test('a third worker is refused, while the others build and later', () => {
    const script = new Script();
    script.join('a');
    script.join('b');
    const refused = [
      { type: 'refuse', id: 'c', message: 'worker c is one too many: all 2 workers have joined' },
    ];
    expect(script.join('c')).toEqual(refused);
    script.standby('a');
    script.standby('b');
    expect(script.state.phase).toBe('FORMING');
    expect(script.join('c')).toEqual(refused);
  });

  test('who has not joined is named after five seconds, and at doubling times, until all are there', () => {
    const script = new Script({ minWorkers: 2 });
    const workers = [
      { id: 'a', name: 'worker 0', host: 'h' },
      { id: 'b', name: 'worker 1 on there', host: 'there' },
    ];
    script.event({ type: 'expected', workers });
    script.join('a');
    const notes: string[] = [];
    const passTo = (ms: number) => {
      while (script.now < ms) {
        script.now += 500;
        for (const { id } of workers) script.event({ type: 'heartbeat', id, heartbeat: HEARTBEAT });
        for (const action of script.event({ type: 'tick' })) {
          notes.push(action.type === 'note' ? action.message : action.type);
        }
      }
    };
    passTo(4_500);
    expect(notes).toEqual([]);
    passTo(19_500);
    expect(notes).toEqual([5, 10].map((seconds) => `after ${seconds} s not joined yet: worker 1 on there`));
    script.join('b');
    passTo(40_000);
    expect(notes.slice(2)).toEqual([]);
  });

  test('building may take long: the user is told who still builds, and after half an hour it ends', () => {
    const script = new Script();
    script.now = 50_000;
    script.join('a');
    script.now = 59_000;
    script.join('b');
    script.standby('a');
    const began = script.now;
    const notes: string[] = [];
    let actions: Action[] = [];
    while (end(actions) === undefined && script.now < began + 2_000_000) {
      script.now += 500;
      for (const id of ['a', 'b']) script.event({ type: 'heartbeat', id, heartbeat: HEARTBEAT });
      actions = script.event({ type: 'tick' });
      for (const action of actions) if (action.type === 'note') notes.push(action.message);
    }
    const building = 'still opening the data or building the model: worker b (pid 101 on h)';
    expect(notes).toEqual([30, 60, 120, 240, 480, 960].map((seconds) => `after ${seconds} s ${building}`));
    expect(reason(actions)).toBe(
      'ERR_JOIN_TIMEOUT: These workers were still opening the data or building the model after 1801 s: ' +
        'worker b (pid 101 on h)',
    );
  });

  test('a worker that is lost while it builds is named, and may come again', () => {
    const script = new Script();
    script.join('a');
    script.join('b');
    script.standby('b');
    const message = 'Lost worker a (pid 101 on h): its connection was reset';
    const lost: Event = { type: 'lost', id: 'a', reason: 'its connection was reset' };
    expect(script.event(lost)).toEqual([{ type: 'warn', message }]);
    script.join('a');
    script.standby('a');
    expect(script.state).toMatchObject({ phase: 'FORMING', places: [{ id: 'a' }, { id: 'b' }] });
  });

  test('who will not come is not waited for', () => {
    const script = new Script();
    script.join('b');
    script.standby('b');
    expect(script.state.phase).toBe('JOINING');
    script.event({ type: 'exited', id: 'a', exit: ended(1), again: true });
    expect(script.state.phase).toBe('JOINING');
    script.event({ type: 'exited', id: 'a', exit: ended(1), again: false });
    expect(script.state).toMatchObject({ phase: 'FORMING', places: [{ id: 'b' }] });
  });

  test('who stands by twice is one worker', () => {
    const script = new Script();
    script.join('a');
    script.join('b');
    script.standby('a');
    expect(script.standby('a')).toEqual([]);
    expect(script.state.phase).toBe('JOINING');
  });
});

test('who stands by while losses are gathered has a place in the next generation, and is not told to wait', () => {
  const script = new Script({ maxWorkers: 3, totalSlots: 2 }).running();
  script.join('c');
  const lost = script.state.handle({ type: 'lost', id: 'b', reason: 'reset' }, script.now);
  expect(lost).toContainEqual({ type: 'gather' });
  expect(script.standby('c')).toEqual([]);
  script.event({ type: 'gathered' });
  expect(script.state.places.map(({ id }) => id)).toEqual(['a', 'c']);
});

describe('the step rule', () => {
  test('everything is on disk before a checkpoint is asked for', () => {
    const actions = new Script({ checkpointEvery: 1 }).running().step(1);
    expect(actions.map(({ type }) => type)).toEqual(['commit', 'record', 'syncRecords', 'send']);
  });

  test('a step is in the ledger before its commit is sent, and only when all have prepared', () => {
    const actions = new Script().running().step(1);
    expect(actions.map(({ type }) => type)).toEqual(['commit', 'record', 'send']);
    expect(actions[0]).toMatchObject({ step: 1 });
    expect(sent(actions)[0]?.message.commit).toEqual({
      step: 1,
      validate: false,
      checkpoint: false,
      stop: false,
    });
  });

  test('validations, checkpoints and the end come when they are due', () => {
    const script = new Script().running();
    const commits = [1, 2, 3, 4, 5, 6].map((step) => {
      const actions = script.step(step);
      const commit = sent(actions)[0]?.message.commit;
      // What is recorded says it, too: alerts allow a validation its time.
      expect(actions).toContainEqual(expect.objectContaining({ type: 'record', validate: commit?.validate }));
      if (commit?.checkpoint && !commit.stop) script.checkpoint(step);
      return commit;
    });
    expect(commits.map((commit) => [commit?.validate, commit?.checkpoint, commit?.stop])).toEqual([
      [false, false, false],
      [false, true, false],
      [true, false, false],
      [false, true, false],
      [false, false, false],
      [true, true, true],
    ]);
    expect(script.state.phase).toBe('CHECKPOINTING');
    expect(script.checkpoint(6)).toEqual([]);
    expect(script.finished('a', 6)).toEqual([]);
    expect(end(script.finished('b', 6))).toMatchObject({ exitCode: 0, fault: null });
    expect(script.state.phase).toBe('DONE');
  });

  test('prepared steps are handed on in the order of ranks', () => {
    const [commit] = new Script().running().step(1);
    expect(
      commit?.type === 'commit' && commit.prepared.map(({ slots }) => slots.map(({ slot }) => slot)),
    ).toEqual([[0], [1, 2]]);
  });

  test('norms that differ in the last bit refuse the step', () => {
    const script = new Script().running();
    script.event({ type: 'prepared', id: 'a', prepared: prepared(1, [0]) });
    const other = prepared(1, [1, 2], { gradientNorm: 1.5 + 2 ** -52 });
    const actions = script.event({ type: 'prepared', id: 'b', prepared: other });
    expect(reason(actions)).toMatch(/ERR_STATE_MISMATCH: The gradient's norm at step 1 is 1.5 on rank 0/);
    expect(actions.some(({ type }) => type === 'commit')).toBe(false);
  });

  test('a gradient that is not finite names step, rank, slot, rows and tensor', () => {
    const script = new Script().running();
    const bad = prepared(1, [1, 2], {
      gradientNorm: Number.NaN,
      nonFinite: [{ slot: 2, tensor: 'x_embedder' }],
    });
    script.event({ type: 'prepared', id: 'b', prepared: bad });
    const good = prepared(1, [0], { gradientNorm: Number.NaN });
    expect(reason(script.event({ type: 'prepared', id: 'a', prepared: good }))).toBe(
      'ERR_NON_FINITE: Step 1 was refused: NaN or infinity in the gradient of rank 1 (pid 101 on h), slot 2, rows 4, 5, first in x_embedder',
    );
  });

  test('where losses tell the sample, only that one is named', () => {
    const script = new Script().running();
    const bad = prepared(1, [1, 2], { gradientNorm: Number.NaN, nonFinite: [{ slot: 1, tensor: 't' }] });
    (bad.slots[0] as { losses: number[] }).losses = [0, Number.POSITIVE_INFINITY];
    script.event({ type: 'prepared', id: 'b', prepared: bad });
    const good = prepared(1, [0], { gradientNorm: Number.NaN });
    expect(reason(script.event({ type: 'prepared', id: 'a', prepared: good }))).toContain(
      'rows 3, first in t',
    );
  });

  test('missing and doubled slots and later steps are refused; a second answer changes nothing', () => {
    const answer = (answers: Prepared[]) => {
      const script = new Script().running();
      let actions: Action[] = [];
      for (const [i, of] of answers.entries()) {
        actions = script.event({ type: 'prepared', id: i === 0 ? 'a' : 'b', prepared: of });
      }
      return reason(actions);
    };
    expect(answer([prepared(1, [0]), prepared(1, [1])])).toContain(
      'ERR_PROTOCOL: Slots 0 to 2 were expected',
    );
    expect(answer([prepared(1, [0]), prepared(1, [0, 1])])).toContain('but the workers reported 0, 0, 1');
    expect(answer([prepared(2, [0])])).toContain(
      'sent Prepared of step 2 while the run is RUNNING at step 1',
    );
    const script = new Script().running();
    script.event({ type: 'prepared', id: 'a', prepared: prepared(1, [0]) });
    expect(script.event({ type: 'prepared', id: 'a', prepared: prepared(1, [0]) })).toEqual([]);
    expect(script.event({ type: 'prepared', id: 'b', prepared: prepared(1, [1, 2]) })).toMatchObject([
      { type: 'commit', step: 1 },
      { type: 'record' },
      { type: 'send' },
    ]);
  });

  test('a validation is handed on when all parts are there', () => {
    const script = new Script().running();
    for (const step of [1, 2, 3]) script.step(step);
    const part = { step: 3, losses: [], seconds: 1, abandoned: false, emaDistance: 0 };
    expect(script.event({ type: 'validated', id: 'b', validated: part })).toEqual([]);
    expect(script.event({ type: 'validated', id: 'a', validated: part })).toMatchObject([
      { type: 'validation', step: 3 },
    ]);
  });
});

describe('stopping', () => {
  test('while running: the step is finished and saved, then the exit code is the asked one', () => {
    const script = new Script().running();
    const stop = { type: 'stop', exitCode: 143, reason: 'told' } as const;
    expect(script.event(stop)).toMatchObject([
      { type: 'stopping', reason: 'told' },
      { type: 'send', to: null, message: { drain: {} } },
    ]);
    expect(script.state.phase).toBe('DRAINING');
    // Neither another signal nor one to a worker changes anything.
    expect(script.event({ ...stop, exitCode: 130 })).toEqual([]);
    expect(script.event({ type: 'leave', id: 'b', leave: { exitCode: 138 } })).toEqual([]);
    expect(sent(script.step(1))[0]?.message.commit).toMatchObject({
      checkpoint: true,
      stop: true,
      validate: false,
    });
    script.checkpoint(1);
    expect(end(script.finish(1))).toMatchObject({ exitCode: 143, reason: 'told' });
    expect(script.state.phase).toBe('STOPPED');
  });

  test.each([
    [[129, 143], 143],
    [[143, 129, 138], 143],
    [[138, 130], 138],
  ])(
    'signals that lead to %j: the exit code is %i, that of SIGTERM if it is among them',
    (codes, expected) => {
      const script = new Script().running();
      for (const exitCode of codes) script.event({ type: 'stop', exitCode, reason: `told ${exitCode}` });
      script.step(1);
      script.checkpoint(1);
      const ending = { exitCode: expected, reason: `told ${expected}` };
      expect(end(script.finish(1))).toMatchObject(ending);
    },
  );

  test('a validation that is due at the step after which the run stops is left out', () => {
    const script = new Script({ validateEvery: 1 }).running();
    expect(sent(script.step(1))[0]?.message.commit).toMatchObject({ validate: true });
    script.event({ type: 'stop', exitCode: 143, reason: 'told' });
    expect(sent(script.step(2))[0]?.message.commit).toMatchObject({ validate: false, stop: true });
  });

  test('before the first step there is nothing to save', () => {
    const script = new Script();
    script.join('a');
    expect(end(script.event({ type: 'stop', exitCode: 130, reason: 'interrupted' }))).toMatchObject({
      exitCode: 130,
    });
  });

  test('after the last commit the run ends as it would have', () => {
    const script = new Script().running();
    for (const step of [1, 2, 3, 4, 5, 6]) script.step(step);
    script.checkpoint(2);
    // The last validation is abandoned all the same.
    expect(sent(script.event({ type: 'stop', exitCode: 130, reason: 'interrupted' }))[0]?.message).toEqual({
      generation: 5,
      drain: {},
    });
    script.checkpoint(6);
    expect(end(script.finish(6))).toMatchObject({ exitCode: 0 });
    expect(script.state.phase).toBe('DONE');
  });
});
