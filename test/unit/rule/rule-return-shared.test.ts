/** Workers that share memory return to their coordinator, or to the next one. */
import { expect, test } from 'vitest';
import { Returning, started } from '../../support/returning.js';
import { ready, SAYS_NOTHING, Script, sent } from '../../support/rule-script.js';

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
    held: { step: 0 },
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
      held: null,
    };
    const cut = expect.objectContaining({ type: 'cut', id: 'c' });
    const actions = run.event({ type: 'standby', id: 'c', standby: { ...standby, shares } });
    if (shares) expect(actions).toContainEqual(cut);
    else expect(actions).toEqual([]);
  },
);

test.each([true, false])('nor one whose memory others have left behind: shared %s', (shares) => {
  const run = new Returning({ committed: 15 }, { steps: 20 });
  const returns = (id: string, step: number) => {
    run.joins(id, 7);
    const built = { withoutRunFolder: false, arithmetic: 'isa avx2' };
    return run.event({ type: 'standby', id, standby: { ...built, held: { step }, shares } });
  };
  const cut = expect.objectContaining({ type: 'cut', id: 'b' });
  returns('b', 3);
  const actions = returns('a', 15);
  if (shares) expect(actions).toContainEqual(cut);
  else expect(actions).not.toContainEqual(cut);
});

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
    const memory = { held: null, shares: true };
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
