/** A coordinator takes the place of one that has died: its workers return with what they hold. */
import { expect, test } from 'vitest';
import { DIGEST, Returning, started } from '../../support/returning.js';
import { killed, reason, sent } from '../../support/rule-script.js';

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
