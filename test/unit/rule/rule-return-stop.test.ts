/** Workers that may return with the state of the run, while it is asked to stop or others leave or are not heard. */
import { expect, test } from 'vitest';
import type { Action, Event } from '../../../src/rule/events.js';
import { Returning } from '../../support/returning.js';
import { end, ended, killed, prepared, ready, Script, sent } from '../../support/rule-script.js';

test('a worker that ends while there is no coordinator, told to stop, does not stop the run', () => {
  const run = new Returning();
  const actions = run.event({ type: 'exited', id: 'a', exit: ended(143), again: false });
  expect(end(actions)).toBeUndefined();
  run.returns('b');
  expect(run.state.phase).toBe('FORMING');
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

test('a run that is asked to stop waits for the workers that hold what is not saved', () => {
  const run = new Returning();
  const stop = { type: 'stop', exitCode: 143, reason: 'received SIGTERM' } as const;
  expect(run.event(stop)).toEqual([
    { type: 'stopping', reason: 'received SIGTERM', awaited: ['worker a', 'worker b'], ms: 15_000 },
  ]);
  const [order] = sent(run.bothReady());
  expect(order!.message.start).toMatchObject({ step: 5, checkpoint: true, stop: true });
  expect(run.state.committed).toBe(5);

  const alone = new Returning();
  alone.event(stop);
  // Steps 3 to 5 are lost.
  expect(end(alone.until(15_250))).toMatchObject({ exitCode: 3, fault: null });
  expect([alone.state.committed, alone.state.reached]).toEqual([2, 5]);
  // Everything is in the checkpoint.
  expect(end(new Returning({ committed: 2 }).event(stop))).toMatchObject({ exitCode: 143 });
});

test('it waits also for one whose session breaks again before it has said what it holds', () => {
  const run = new Returning();
  run.bothReady();
  run.event({ type: 'stop', exitCode: 143, reason: 'received SIGTERM' });
  for (const id of ['a', 'b']) run.event({ type: 'lost', id, reason: 'reset' });
  run.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: true });
  run.joins('a', 8);
  expect(end(run.joins('a', 8))).toBeUndefined();
  expect(sent(run.returns('a', 8)).some(({ message }) => message.form)).toBe(true);
});

test('where none is heard of those that hold what is not saved, they may come back with it', () => {
  const run = new Returning();
  run.bothReady();
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

const stop = { type: 'stop', exitCode: 130, reason: 'interrupted' } as const;
const waits = (...ids: string[]) => {
  const awaited = ids.map((id) => `worker ${id} (pid 1 on h)`);
  return { type: 'stopping', reason: 'interrupted', awaited, ms: 30_000 };
};

test('a run that is asked to stop when all were cut off long ago waits half a minute for them, and saves what they hold', () => {
  const run = new Returning();
  run.bothReady();
  run.until(run.now + 20_000);
  expect(run.event(stop)).toEqual([waits('a', 'b')]);
  expect(run.until(run.now + 25_000)).toEqual([]);
  expect(sent(run.returns('b', 8))).toMatchObject([{ to: ['b'], message: { form: {} } }]);
  run.formed({ b: 5 });
  const [start] = sent(run.ready(5, 'b'));
  expect(start!.message.start).toMatchObject({ step: 5, checkpoint: true, stop: true });
});

test('and ends without them when the time is over, however long it would have waited otherwise', () => {
  const run = new Returning();
  run.bothReady();
  run.until(run.now + 50_000);
  run.event(stop);
  expect(run.until(run.now + 29_000)).toEqual([]);
  expect(end(run.until(run.now + 2_000))).toMatchObject({ exitCode: 3, fault: null });
});

test('it waits as long for one that is cut off while it stops, but for none that has ended', () => {
  const run = new Returning();
  run.bothReady();
  run.event(stop);
  const actions = run.until(run.now + 5_000);
  expect(actions).toContainEqual(expect.objectContaining({ type: 'stopping', reason: 'interrupted' }));
  expect(run.state.phase).toBe('JOINING');
  expect(end(actions)).toBeUndefined();
  run.event({ type: 'exited', id: 'a', exit: killed('SIGKILL'), again: true });
  expect(end(run.event({ type: 'tick' }))).toBeUndefined();
  run.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: false });
  expect(end(run.event({ type: 'tick' }))).toMatchObject({ exitCode: 3 });
});

test.each([true, false])(
  'the end of what stands for it here is none of a worker that may live elsewhere; started again: %s',
  (again) => {
    const run = new Returning();
    run.bothReady();
    run.until(run.now + 20_000);
    const unknown = { code: null, signal: null, outOfMemory: false };
    const told = (id: string) => run.event({ type: 'exited', id, exit: unknown, again, mayLive: true });
    expect(told('a')).toMatchObject([{ type: 'warn' }]);
    run.until(run.now + 40_000);
    expect(run.event(stop)).toEqual([waits('a', 'b')]);
    expect(end(told('b'))).toBeUndefined();
    run.event({ type: 'exited', id: 'b', exit: killed('SIGKILL'), again: true });
    expect(run.until(run.now + 25_000)).toEqual([]);
    expect(sent(run.returns('a', 8))).toMatchObject([{ to: ['a'], message: { form: {} } }]);
  },
);

test('nor of a worker of the coordinator before that may live elsewhere', () => {
  const run = new Returning({ members: ['a'] });
  run.event(stop);
  const exit = { code: null, signal: null, outOfMemory: false };
  expect(end(run.event({ type: 'exited', id: 'a', exit, again: false, mayLive: true }))).toBeUndefined();
  expect(run.returns('a')).toContainEqual(expect.objectContaining({ type: 'journal' }));
});

test('nor does one that holds an old state, as long as others may return', () => {
  const run = new Returning({ committed: 15 }, { steps: 20 });
  run.returns('b', 7, 3);
  run.event(stop);
  expect(run.state.phase).toBe('JOINING');
  run.returns('a', 7, 15);
  const [sync] = sent(run.formed({ a: 15, b: 3 }));
  expect(sync).toMatchObject({ to: ['a'], message: { sync: { keep: {} } } });
});

test('it does not wait for one that was lost before the last checkpoint', () => {
  const run = new Script({ maxWorkers: 3, checkpointEvery: 2, validateEvery: 0, steps: 9 }).running();
  run.step(1);
  run.event({ type: 'lost', id: 'b', reason: 'reset' });
  run.now += 60_000;
  for (const type of ['formed', 'ready'] as const) {
    const held = { device: null, sharing: null, held: { step: 1 } };
    const answer =
      type === 'formed' ? { type, id: 'a', formed: held } : { type, id: 'a', ready: ready({ step: 1 }) };
    run.event(answer as Event);
  }
  const computes = (step: number) =>
    run.event({ type: 'prepared', id: 'a', prepared: prepared(step, [0, 1, 2]) });
  computes(2);
  run.applied('a', 2);
  run.saved(2);
  run.published(2);
  computes(3);
  run.event({ type: 'exited', id: 'a', exit: killed('SIGKILL'), again: true });
  expect(end(run.event(stop))).toMatchObject({ exitCode: 3 });
});

test('nor for any where the last checkpoint has all steps, whatever the coordinator before had committed', () => {
  const run = new Returning({}, { steps: 9 });
  run.bothReady();
  run.step(6);
  run.checkpoint(6);
  for (const id of ['a', 'b']) run.event({ type: 'lost', id, reason: 'reset' });
  expect(end(run.event(stop))).toMatchObject({ exitCode: 130, fault: null });
});

test('one that comes and is lost again and again gets half a minute in all, and is named once', () => {
  const run = new Returning();
  run.bothReady();
  run.until(run.now + 20_000);
  run.event(stop);
  const before = run.now;
  const actions: Action[] = [];
  for (let i = 0; i < 4 && run.state.phase !== 'STOPPED'; i++) {
    run.joins('a', 8);
    actions.push(...run.event({ type: 'lost', id: 'a', reason: 'reset' }), ...run.until(run.now + 20_000));
  }
  expect(actions.filter(({ type }) => type === 'stopping')).toEqual([]);
  expect(end(actions)).toMatchObject({ exitCode: 3 });
  expect(run.now - before).toBeLessThan(45_000);
});

test('those that hold nothing do not save in place of those that are cut off', () => {
  const run = new Returning({}, { minWorkers: 2, maxWorkers: 3 });
  run.bothReady();
  run.until(run.now + 20_000);
  run.join('c');
  run.standby('c');
  const [stopping, drain, ...others] = run.event(stop);
  expect([stopping, others]).toEqual([waits('a', 'b'), []]);
  expect(drain).toMatchObject({ message: { drain: {} } });
  expect(run.until(run.now + 10_000, 'c')).toEqual([]);
  run.returns('a', 8);
  expect(run.state.places.map(({ id }) => id)).toEqual(['a', 'c']);
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

test('nor for one whose state is no newer than that of a worker that is here', () => {
  const run = new Returning({}, { steps: 99, checkpointEvery: 0, validateEvery: 0 });
  run.bothReady();
  run.step(6);
  run.event({ type: 'lost', id: 'b', reason: 'reset' });
  run.until(run.now + 4_000, 'a');
  run.formed({ a: 6 });
  run.ready(6, 'a');
  run.event({ type: 'prepared', id: 'a', prepared: prepared(7, [0, 1, 2]) });
  run.event({ type: 'lost', id: 'a', reason: 'reset' });
  // It has not heard that step 7 is committed, which nobody holds, and is told to end before it can form a generation.
  run.joins('a', run.state.generation);
  run.event({ type: 'leave', id: 'a', leave: { exitCode: 143 } });
  const standby = { withoutRunFolder: false, arithmetic: 'isa avx2', held: { step: 6 }, shares: false };
  run.event({ type: 'standby', id: 'a', standby });
  const actions = run.until(run.now + 20_000, 'a');
  expect(actions.find(({ type }) => type === 'stopping')).toMatchObject({ awaited: [] });
  expect(run.state.phase).toBe('FORMING');
});

test('a run that gives up because too few have come waits no longer for those that it has waited for', () => {
  const run = new Returning({}, { minWorkers: 2 });
  run.returns('a');
  run.event({ type: 'lost', id: 'a', reason: 'reset' });
  run.join('c');
  run.standby('c');
  const actions = run.until(run.now + 62_000, 'c');
  expect(actions.find(({ type }) => type === 'stopping')).toMatchObject({ awaited: [] });
  expect(run.state.phase).toBe('FORMING');
});
