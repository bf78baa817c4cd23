import { EventEmitter } from 'node:events';
import { expect, test, vi } from 'vitest';
import type { Child } from '../../../src/launch/children.js';
import { Members } from '../../../src/launch/members.js';

function followed() {
  const coordinator = new EventEmitter();
  const members = new Members();
  members.follow({ process: coordinator } as unknown as Child);
  const say = (workerId: string, presence: string) =>
    coordinator.emit('message', { member: { workerId, presence } });
  return { members, say };
}

test('a worker that comes in time is there, and one that does not come is not', async () => {
  const { members, say } = followed();
  const comes = members.comes('a', 60_000);
  say('b', 'here');
  say('a', 'here');
  expect(await comes).toBe(true);
  expect(await members.comes('a', 0)).toBe(true);
  expect(await members.comes('c', 1)).toBe(false);
});

test('nobody listens any more for one that has not come in time', async () => {
  const { members } = followed();
  const once = vi.spyOn(EventEmitter.prototype, 'once');
  for (let i = 0; i < 3; i++) await members.comes('c', 1);
  const [changes] = once.mock.contexts as EventEmitter[];
  vi.restoreAllMocks();
  expect(changes!.listenerCount('change')).toBe(0);
});

test('one that was told to end and one that was lost are told apart, also when the first one has come back', async () => {
  const { members, say } = followed();
  for (const id of ['a', 'b']) say(id, 'here');
  const gone = [members.gone('a'), members.gone('b')];
  say('a', 'released');
  say('b', 'lost');
  expect(await Promise.all(gone)).toEqual([{ isReleased: true }, { isReleased: false }]);
  say('a', 'here');
  say('a', 'lost');
  expect(await members.gone('a')).toEqual({ isReleased: false });
});
