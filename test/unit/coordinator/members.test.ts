import { expect, test } from 'vitest';
import { Members } from '../../../src/coordinator/members.js';

/** Members by id: "h" of those that hold the state, "l" of those that want to leave. */
function membersOf(all: Record<string, string>): Members {
  const members = new Members();
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
    members.standBy(id, true, false);
    if (flags.includes('h')) members.hold([member]);
    if (flags.includes('l')) members.wantsToLeave(id, 143);
  }
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

test('of some members, the one that has joined last', () => {
  expect(membersOf({ b: '', a: '', c: '' }).youngest(['a', 'b'])).toBe('a');
});
