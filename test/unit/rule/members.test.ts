import { expect, test } from 'vitest';
import type { Member } from '../../../src/rule/events.js';
import { Members } from '../../../src/rule/members.js';

/** The steps after which members hold the state. */
const HELD = { newest: 20, older: 12 };

/** Members by id: "h" of those that hold the newest state, "o" an older one, "l" of those that want to leave. */
function membersOf(all: Record<string, string>): Members {
  const members = new Members();
  const holders: Member[] = [];
  for (const [id, flags] of Object.entries(all)) {
    const member = {
      id,
      host: 'h',
      pid: 1,
      dataAddress: '',
      localAddress: '',
      machine: '',
      sharedMemory: '',
    };
    members.join(member, 0);
    const held = flags.includes('o') ? HELD.older : null;
    members.standBy(id, { seesFolder: true, held, isOld: false, shares: false });
    if (flags.includes('h')) holders.push(member);
    if (flags.includes('l')) members.wantsToLeave(id, 143);
  }
  members.hold(holders, HELD.newest);
  return members;
}

const chosen = (all: Record<string, string>, most: number) =>
  membersOf(all)
    .choose(most)
    .map(({ id }) => id);

test('those that hold the state come before those that do not, and who leaves is not needed', () => {
  expect(chosen({ a: '', b: 'h', c: 'h' }, 2)).toEqual(['b', 'c']);
  expect(chosen({ a: 'h', b: 'hl', c: '' }, 3)).toEqual(['a', 'c']);
});

test('where only those hold the state that leave, one of them stays to give it, and takes no other slot', () => {
  expect(chosen({ a: 'hl', b: 'hl', c: '' }, 2)).toEqual(['a', 'c']);
  expect(chosen({ a: 'hl', b: 'hl', c: '', d: '' }, 4)).toEqual(['a', 'c', 'd']);
});

test('where all leave, all that hold the state may still finish the step and save it', () => {
  expect(chosen({ a: 'hl', b: 'hl' }, 4)).toEqual(['a', 'b']);
});

test('who wants to leave and holds an older state stays only where nobody holds a newer one', () => {
  expect(chosen({ a: 'ol', b: 'h', c: '' }, 3)).toEqual(['b', 'c']);
  expect(chosen({ a: 'ol', b: 'hl', c: '' }, 3)).toEqual(['b', 'c']);
  expect(chosen({ a: 'ol', b: '', c: '' }, 2)).toEqual(['a', 'b']);
});

test('an older state is none of those that are the newest of the run', () => {
  const members = membersOf({ a: 'ol', b: '' });
  expect([members.anyHolds, members.holdWithout([]), [...members.holders]]).toEqual([false, false, ['a']]);
  expect([...membersOf({ a: 'o', b: 'h' }).holders]).toEqual(['b']);
  expect([...membersOf({ a: '' }).holders]).toEqual([]);
});

test('of those that come with a state, the later counts, also if it wants to leave', () => {
  const members = membersOf({ a: 'o', b: 'h', c: '', d: '' });
  const comes = (id: string, held: number) => {
    members.join({ ...members.get(id)! }, 0, 1);
    members.standBy(id, { seesFolder: true, held, isOld: true, shares: false });
  };
  comes('c', HELD.newest - 1);
  expect([...members.holders]).toEqual(['b']);
  comes('d', HELD.newest + 30);
  expect([...members.holders]).toEqual(['d']);
  expect(members.choose(2).map(({ id }) => id)).toEqual(['a', 'd']);
  members.wantsToLeave('d', 143);
  expect(members.choose(4).map(({ id }) => id)).toEqual(['a', 'b', 'c', 'd']);
  expect(members.holdWithout(['b', 'c', 'd'])).toBe(false);
});

test('of some members, the one that has joined last', () => {
  expect(membersOf({ b: '', a: '', c: '' }).youngest(['a', 'b'])).toBe('a');
});

test('the workers of a machine that is gone are silent together, whenever each of them was heard last', () => {
  const members = membersOf({ a: '', b: '', c: '' });
  const limits = { building: 60_000, built: 3_000 };
  const [first, last, lives] = [1_000, 1_240, 3_900];
  members.heard('a', first);
  members.heard('b', last);
  members.heard('c', lives);
  const silent = (now: number) => members.silent(now, limits).map(({ id }) => id);
  expect(silent(first + 3_000)).toEqual([]);
  expect(silent(first + 3_001)).toEqual([]);
  expect(silent(last + 3_001)).toEqual(['a', 'b']);
});

test('a worker that is silent does not wait for long for others that are about to be', () => {
  const members = membersOf({ a: '', b: '' });
  members.heard('b', 400);
  const silent = (now: number) => members.silent(now, { building: 60_000, built: 3_000 }).map(({ id }) => id);
  expect(silent(3_399)).toEqual([]);
  members.heard('b', 900);
  expect(silent(3_501)).toEqual(['a']);
});
