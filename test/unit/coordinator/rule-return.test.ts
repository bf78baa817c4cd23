/** A coordinator takes the place of one that has died: its workers return with what they hold. */
import { expect, test } from 'vitest';
import type { Action, Former, Settings } from '../../../src/coordinator/events.js';
import { Ledger } from '../../../src/coordinator/ledger.js';
import {
  end,
  ended,
  HEARTBEAT,
  killed,
  prepared,
  ready,
  reason,
  SAYS_NOTHING,
  Script,
  sent,
} from '../../support/rule-script.js';

/** What step 5 gives, by all slots. */
const FIFTH = new Ledger(4).enter(5, [prepared(5, [0]), prepared(5, [1, 2])]);
const DIGEST = 'digest' in FIFTH ? FIFTH.digest : '';

const former: Former = {
  members: ['a', 'b'],
  arithmetic: 'isa avx2',
  committed: 5,
  validated: (upTo) => (upTo >= 3 ? 3 : 0),
  digestOf: (step) => (step === 5 ? DIGEST : null),
};

class Returning extends Script {
  constructor(changes: Partial<Former> = {}, settings: Partial<Settings> = {}) {
    super({ resumePath: 'step-2', resumeStep: 2, former: { ...former, ...changes }, ...settings });
  }

  joins(id: string, newest: number): Action[] {
    const addresses = { dataAddress: `${id}:1`, localAddress: id, machine: 'm', sharedMemory: '' };
    return this.event({ type: 'joined', id, host: 'h', pid: 1, newest, ...addresses, ...SAYS_NOTHING });
  }

  /** It joins, and stands by with the state of the run. */
  returns(id: string, newest = 7): Action[] {
    this.joins(id, newest);
    const standby = {
      withoutRunFolder: false,
      arithmetic: 'isa avx2',
      holds: true,
      shares: false,
    };
    return this.event({ type: 'standby', id, standby });
  }

  /** All say what they hold. Returns what they are told. */
  formed(held: Record<string, number | null>): Action[] {
    return Object.entries(held).flatMap(([id, step]) =>
      this.event({
        type: 'formed',
        id,
        formed: { device: null, sharing: null, held: step === null ? null : { step } },
      }),
    );
  }

  /** The time passes, with ticks and heartbeats. */
  until(time: number, ...ids: string[]): Action[] {
    const actions: Action[] = [];
    for (; this.now < time; this.now += 250) {
      for (const id of ids) this.event({ type: 'heartbeat', id, heartbeat: HEARTBEAT });
      actions.push(...this.event({ type: 'tick' }));
    }
    return [...actions, ...this.event({ type: 'tick' })];
  }

  ready(step: number, ...ids: string[]): Action[] {
    return ids.flatMap((id) => this.event({ type: 'ready', id, ready: ready({ step }) }));
  }
}

const started = (actions: Action[]) => actions.find((action) => action.type === 'started');

test('a worker that comes before them has to compute as they do', () => {
  const run = new Returning();
  expect(sent(run.join('c'))).toMatchObject([{ message: { welcome: { isa: 'avx2' } } }]);
  expect(run.standby('c', false, 'isa avx512')).toContainEqual(
    expect.objectContaining({ type: 'refuse', id: 'c' }),
  );
  expect(run.join('d', ['generic'])).toContainEqual(
    expect.objectContaining({ type: 'refuse', id: 'd', message: expect.stringContaining('isa avx2') }),
  );
  run.returns('a');
  expect(run.returns('b')).toContainEqual(
    expect.objectContaining({ type: 'journal', arithmetic: 'isa avx2' }),
  );
});

test('when all have returned they form the next generation that none has heard of, with what they hold', () => {
  const run = new Returning();
  expect(sent(run.returns('a'))).toEqual([]);
  const formed = run.returns('b', 8);
  expect(formed[0]).toMatchObject({ type: 'journal', generation: 9, step: 5 });
  expect(sent(run.formed({ a: 5, b: 5 })).map(({ message }) => message.sync)).toMatchObject([
    { keep: {} },
    { keep: {} },
  ]);
  const actions = run.ready(5, 'a', 'b');
  expect(started(actions)).toMatchObject({ firstStep: 6, again: 0 });
  // The validation of step 3 was recorded, and there is no checkpoint of step 4 yet that could be written now.
  expect(sent(actions)[0]!.message.start).toEqual({
    step: 5,
    validate: false,
    checkpoint: false,
    stop: false,
  });
});

test('a step that nobody has applied is run again, and compared', () => {
  const run = new Returning();
  run.returns('a');
  run.returns('b');
  run.formed({ a: 4, b: 4 });
  const actions = run.ready(4, 'a', 'b');
  expect(started(actions)).toMatchObject({ firstStep: 5, again: 1 });
  expect(sent(actions)[0]!.message.start).toMatchObject({ step: 4, checkpoint: true });
  const committed = run.step(5);
  expect(committed[0]).toMatchObject({ type: 'commit', step: 5, digest: DIGEST });
});

test('another result than the recorded one ends the run', () => {
  const run = new Returning({ digestOf: () => 'another' });
  run.returns('a');
  run.returns('b');
  run.formed({ a: 4, b: 4 });
  run.ready(4, 'a', 'b');
  expect(reason(run.step(5))).toContain('ERR_STATE_MISMATCH: Step 5 was run again');
});

test('a validation that was not recorded is ordered again', () => {
  const run = new Returning({ committed: 3, validated: () => 2 });
  run.returns('a');
  run.returns('b');
  run.formed({ a: 3, b: 3 });
  expect(sent(run.ready(3, 'a', 'b'))[0]!.message.start).toMatchObject({ step: 3, validate: true });
});

test('a validation that was recorded is not, where later steps are run again', () => {
  const run = new Returning({ committed: 5, validated: (upTo) => (upTo >= 5 ? 5 : 3) });
  run.returns('a');
  run.returns('b');
  run.formed({ a: 3, b: 3 });
  expect(sent(run.ready(3, 'a', 'b'))[0]!.message.start).toMatchObject({ step: 3, validate: false });
});

test('a worker that ends while there is no coordinator, told to stop, does not stop the run', () => {
  const run = new Returning();
  const actions = run.event({ type: 'exited', id: 'a', exit: ended(143), again: false });
  expect(end(actions)).toBeUndefined();
  run.returns('b');
  expect(run.state.phase).toBe('FORMING');
});

test('a worker of the coordinator before that has ended is not waited for, and no worker of the run is missed', () => {
  const run = new Returning({}, { workers: 1 });
  run.join('c');
  run.standby('c');
  run.event({ type: 'forgotten', id: 'a' });
  expect(run.event({ type: 'tick' })).toEqual([]);
  run.event({ type: 'forgotten', id: 'b' });
  run.event({ type: 'tick' });
  expect(run.state.places.map(({ id }) => id)).toEqual(['c']);
});

test('a worker that leaves does not stop the run while others may return', () => {
  const run = new Returning();
  run.returns('a');
  expect(run.event({ type: 'leave', id: 'a', leave: { exitCode: 143 } })).toMatchObject([{ type: 'note' }]);
  run.returns('b');
  expect(run.state.phase).toBe('FORMING');
  expect(run.state.places.map(({ id }) => id)).toEqual(['b']);
});

test('nor later, when another one is lost that came in its place', () => {
  const run = new Returning({}, { minWorkers: 2, maxWorkers: 4 });
  run.returns('a');
  run.event({ type: 'leave', id: 'a', leave: { exitCode: 143 } });
  run.join('c');
  run.standby('c');
  run.returns('b');
  expect(run.state.places.map(({ id }) => id)).toEqual(['b', 'c']);
  run.formed({ b: 5, c: null });
  run.ready(5, 'b', 'c');
  run.until(100_000, 'b', 'c');
  run.event({ type: 'lost', id: 'c', reason: 'reset' });
  expect(run.until(101_000, 'b')).toEqual([]);
  expect(run.state.phase).toBe('JOINING');
});

test('if they do not, it stops the run, and what it holds is saved', () => {
  const run = new Returning();
  run.returns('a');
  run.event({ type: 'leave', id: 'a', leave: { exitCode: 143 } });
  expect(run.until(15_250, 'a')).toContainEqual(expect.objectContaining({ type: 'stopping' }));
  run.formed({ a: 5 });
  const [start] = sent(run.ready(5, 'a'));
  expect(start!.message.start).toMatchObject({ step: 5, checkpoint: true, stop: true });
});

test('a run that is asked to stop waits for those that may return, also when it hears that another one has ended', () => {
  const run = new Returning();
  run.event({ type: 'stop', exitCode: 143, reason: 'told' });
  expect(end(run.event({ type: 'exited', id: 'a', exit: killed('SIGKILL'), again: true }))).toBeUndefined();
  expect(run.returns('b')).toContainEqual(expect.objectContaining({ type: 'journal' }));
});

test('others do not begin from the checkpoint before those could return that hold a newer state', () => {
  const run = new Returning({}, { maxWorkers: 4 });
  run.join('x');
  run.standby('x');
  run.join('y');
  expect(sent(run.standby('y'))).toEqual([]);
  run.returns('a');
  expect(run.returns('b')[0]).toMatchObject({ type: 'journal', step: 5 });
});

test('one that comes with a newer state than the checkpoint from which others are about to start is waited for', () => {
  const run = new Returning({ members: ['b'] });
  run.returns('b');
  run.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: true });
  run.join('b');
  run.standby('b');
  expect(sent(run.formed({ b: null }))[0]).toMatchObject({
    to: ['b'],
    message: { sync: { checkpoint: {} } },
  });
  expect(run.returns('a')).toContainEqual(expect.objectContaining({ type: 'journal', step: 5 }));
  expect(sent(run.formed({ a: 5, b: null }))).toMatchObject([
    { to: ['a'], message: { sync: { keep: {} } } },
    { to: ['b'], message: { sync: { holders: { step: 5, ranks: [0] } } } },
  ]);
  expect(started(run.ready(5, 'a', 'b'))).toMatchObject({ firstStep: 6, again: 0 });
});

test('who comes back to workers that share another state by now is left out', () => {
  const run = new Returning({ members: ['a'] });
  run.join('x');
  run.standby('x');
  run.until(15_250, 'x');
  const sharing = { problem: '' };
  run.event({ type: 'formed', id: 'x', formed: { device: null, sharing, held: null } });
  expect(run.returns('a')).toMatchObject([{ type: 'cut', id: 'a' }, { type: 'warn' }]);
});

test('workers that share a state and all lose their sessions go on with it: no others have another one', () => {
  const run = new Script();
  run.forming();
  const formed = { device: null, sharing: { problem: '' }, held: null };
  for (const id of ['a', 'b']) run.event({ type: 'formed', id, formed });
  for (const id of ['a', 'b']) run.event({ type: 'ready', id, ready: ready() });
  for (const id of ['a', 'b']) run.event({ type: 'lost', id, reason: 'reset' });
  const addresses = { dataAddress: '', localAddress: '', machine: 'm', sharedMemory: 'm', ...SAYS_NOTHING };
  const newest = 5;
  for (const id of ['a', 'b']) run.event({ type: 'joined', id, host: 'h', pid: 1, newest, ...addresses });
  const standby = {
    withoutRunFolder: false,
    arithmetic: 'isa avx2',
    holds: true,
    shares: true,
  };
  expect(run.event({ type: 'standby', id: 'a', standby })).toEqual([]);
  const [journal] = run.event({ type: 'standby', id: 'b', standby });
  expect(journal).toMatchObject({ type: 'journal', workers: [{ id: 'a' }, { id: 'b' }] });
});

test.each([true, false])(
  'of those that were away while others shared a state, who shares nothing may stay: %s',
  (shares) => {
    const run = new Script({ maxWorkers: 3 });
    run.forming();
    const formed = { device: null, sharing: { problem: '' }, held: null };
    for (const id of ['a', 'b']) run.event({ type: 'formed', id, formed });
    for (const id of ['a', 'b']) run.event({ type: 'ready', id, ready: ready() });
    const addresses = { dataAddress: '', localAddress: '', machine: 'm', sharedMemory: 'm', ...SAYS_NOTHING };
    run.event({ type: 'joined', id: 'c', host: 'h', pid: 1, newest: 1, ...addresses });
    const standby = {
      withoutRunFolder: false,
      arithmetic: 'isa avx2',
      holds: false,
    };
    const cut = expect.objectContaining({ type: 'cut', id: 'c' });
    const actions = run.event({ type: 'standby', id: 'c', standby: { ...standby, shares } });
    if (shares) expect(actions).toContainEqual(cut);
    else expect(actions).toEqual([]);
  },
);

test('whoever shares memory without a state does not stay beside one that holds it', () => {
  const run = new Returning({ members: ['a'] });
  const stray = () => {
    const addresses = {
      dataAddress: 'c',
      localAddress: 'c',
      machine: 'm',
      sharedMemory: '',
      ...SAYS_NOTHING,
    };
    run.event({ type: 'joined', id: 'c', host: 'h', pid: 1, newest: 8, ...addresses });
    const memory = { holds: false, shares: true };
    const built = { withoutRunFolder: false, arithmetic: 'isa avx2' };
    return run.event({ type: 'standby', id: 'c', standby: { ...built, ...memory } });
  };
  const cut = expect.objectContaining({ type: 'cut', id: 'c' });
  expect(stray()).not.toContainEqual(cut);
  const actions = run.returns('a');
  expect(actions).toContainEqual(
    expect.objectContaining({ type: 'journal', workers: [expect.objectContaining({ id: 'a' })] }),
  );
  expect(actions).toContainEqual(cut);
});

test('without anybody who holds the state, the run resumes from the checkpoint, and nothing is compared', () => {
  const run = new Returning({ digestOf: () => 'another' });
  run.forming();
  run.formed({ a: null, b: null });
  expect(started(run.ready(2, 'a', 'b'))).toMatchObject({ firstStep: 3, again: null });
  expect(run.step(3)[0]).toMatchObject({ type: 'commit', step: 3 });
});

test('one that does not return is waited for for 15 seconds; one that has ended, not at all', () => {
  const late = new Returning();
  late.returns('a');
  expect(late.until(15_000, 'a')).toEqual([]);
  expect(late.until(15_250, 'a')[0]).toMatchObject({ type: 'journal', workers: [{ id: 'a' }] });

  const dead = new Returning();
  dead.returns('a');
  const actions = dead.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: true });
  expect(actions).toContainEqual(expect.objectContaining({ type: 'journal' }));

  const gone = new Returning();
  gone.event({ type: 'gone', id: 'b' });
  expect(gone.returns('a')[0]).toMatchObject({ type: 'journal' });
});

test('where a state that is shared was kept, it is shared again, also with one that comes later', () => {
  const run = new Returning();
  run.returns('a');
  run.returns('b');
  const sharing = { problem: '' };
  run.event({ type: 'formed', id: 'a', formed: { device: null, sharing, held: null } });
  const actions = run.event({ type: 'formed', id: 'b', formed: { device: null, sharing, held: null } });
  expect(sent(actions)[0]!.message.sync).toMatchObject({ shared: true, checkpoint: 'step-2' });
  // The memory itself says of which step it is.
  expect(started(run.ready(5, 'a', 'b'))).toMatchObject({ firstStep: 6, again: 0 });
});

test('a run that is asked to stop waits for the workers that hold what is not saved', () => {
  const run = new Returning();
  const stop = { type: 'stop', exitCode: 143, reason: 'received SIGTERM' } as const;
  expect(run.event(stop)).toEqual([{ type: 'stopping', reason: 'received SIGTERM' }]);
  run.returns('a');
  run.returns('b');
  run.formed({ a: 5, b: 5 });
  const [order] = sent(run.ready(5, 'a', 'b'));
  expect(order!.message.start).toMatchObject({ step: 5, checkpoint: true, stop: true });

  const alone = new Returning();
  alone.event(stop);
  expect(end(alone.until(15_250))).toMatchObject({ exitCode: 143, fault: null });
  // Everything is in the checkpoint.
  expect(end(new Returning({ committed: 2 }).event(stop))).toMatchObject({ exitCode: 143 });
});

test('it waits also for one whose session breaks again before it has said what it holds', () => {
  const run = new Returning();
  run.returns('a');
  run.returns('b');
  run.formed({ a: 5, b: 5 });
  run.ready(5, 'a', 'b');
  run.event({ type: 'stop', exitCode: 143, reason: 'received SIGTERM' });
  for (const id of ['a', 'b']) run.event({ type: 'lost', id, reason: 'reset' });
  run.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: true });
  run.joins('a', 8);
  expect(end(run.joins('a', 8))).toBeUndefined();
  expect(sent(run.returns('a', 8)).some(({ message }) => message.form)).toBe(true);
});

test('where none is heard of those that hold what is not saved, they may come back with it', () => {
  const run = new Returning();
  run.returns('a');
  run.returns('b');
  run.formed({ a: 5, b: 5 });
  run.ready(5, 'a', 'b');
  const actions = run.until(run.now + 4_000);
  const cuts = actions.filter(({ type }) => type === 'cut');
  expect(cuts).toMatchObject([
    { id: 'a', mayReturn: true },
    { id: 'b', mayReturn: true },
  ]);
  expect(run.until(run.now + 30_000)).toEqual([]);
  expect(sent(run.returns('a', 8))).toMatchObject([{ to: ['a'], message: { form: {} } }]);
  expect(sent(run.formed({ a: 5 }))).toMatchObject([{ to: ['a'], message: { sync: { keep: {} } } }]);
});

test('where they are not heard before anything is unsaved, they are left out', () => {
  const run = new Script().running();
  const actions: Action[] = [];
  for (; run.now < 100_000; run.now += 250) actions.push(...run.event({ type: 'tick' }));
  const cuts = actions.filter(({ type }) => type === 'cut');
  expect(cuts).toHaveLength(2);
  for (const cut of cuts) expect(cut).not.toHaveProperty('mayReturn');
});

test('one that has just got the state and wants to leave gives it to the others when its source is gone', () => {
  const run = new Script({ maxWorkers: 3, validateEvery: 0 }).running();
  run.step(1);
  run.join('c');
  run.standby('c');
  run.step(2);
  const held = { a: { step: 2 }, b: { step: 1 }, c: null };
  for (const [id, has] of Object.entries(held)) {
    run.event({ type: 'formed', id, formed: { device: null, sharing: null, held: has } });
  }
  for (const id of ['a', 'b']) run.event({ type: 'ready', id, ready: ready({ step: 2 }) });
  run.event({ type: 'leave', id: 'b', leave: { exitCode: 143 } });
  const actions = run.event({ type: 'exited', id: 'a', exit: killed('SIGKILL'), again: true });
  expect(actions).toContainEqual(
    expect.objectContaining({
      type: 'journal',
      workers: [{ id: 'b' }, { id: 'c' }].map((one) => expect.objectContaining(one)),
    }),
  );
});
