import { EventEmitter } from 'node:events';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { Child } from '../../../src/launch/children.js';
import { Members } from '../../../src/launch/members.js';

/** Another coordinator begins. Returns how it says who takes part. */
function follow(members: Members) {
  const coordinator = new EventEmitter();
  members.follow({ process: coordinator } as unknown as Child);
  return (workerId: string, presence: string) =>
    coordinator.emit('message', { member: { workerId, presence } });
}

function followed() {
  const members = new Members();
  return { members, say: follow(members) };
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

test('where a second coordinator dies, too, who has returned to the third stays, and who has not is gone in time', () => {
  vi.useFakeTimers();
  onTestFinished(() => {
    vi.useRealTimers();
  });
  const { members, say } = followed();
  for (const id of ['a', 'b']) say(id, 'here');
  follow(members);
  vi.advanceTimersByTime(20_000);
  const third = follow(members);
  third('a', 'here');
  vi.advanceTimersByTime(20_000);
  expect([members.has('a'), members.has('b')]).toEqual([true, true]);
  vi.advanceTimersByTime(10_000);
  expect([members.has('a'), members.has('b')]).toEqual([true, false]);
});
