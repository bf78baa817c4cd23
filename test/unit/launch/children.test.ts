import { expect, test } from 'vitest';
import { type Child, lineSender } from '../../../src/launch/children.js';

/** A child that takes messages when it is told to. */
function child() {
  const waiting: { message: object; taken: (error: Error | null) => void }[] = [];
  const send = (message: object, taken: (error: Error | null) => void) => waiting.push({ message, taken });
  const take = (error: Error | null = null) => {
    const all = waiting.splice(0);
    for (const { taken } of all) taken(error);
    return all.map(({ message }) => (message as { output: string }).output);
  };
  return { child: { process: { send } } as unknown as Child, take };
}

test('lines for a child that hangs are dropped at some time, and their number is told when it goes on', () => {
  const { child: hanging, take } = child();
  const send = lineSender(
    hanging,
    (output) => ({ output }),
    () => {},
  );
  for (let i = 0; i < 5_000; i++) send(`line ${i}`);
  expect(take()).toEqual(Array.from({ length: 1_000 }, (_, i) => `line ${i}`));
  expect(take()).toEqual([expect.stringMatching(/^4,?000 lines of workers could not be passed on/)]);
  send('next');
  expect(take()).toEqual(['next']);
});

test('lines for a child that has ended are given back', () => {
  const { child: ended, take } = child();
  const back: string[] = [];
  const send = lineSender(
    ended,
    (output) => ({ output }),
    (line) => back.push(line),
  );
  send('one');
  take(new Error('EPIPE'));
  expect(back).toEqual(['one']);
  for (let i = 0; i < 1_001; i++) send('more');
  take(new Error('EPIPE'));
  take(new Error('EPIPE'));
  expect(back).toHaveLength(1_002);
  expect(back.at(-1)).toMatch(/^1 line of workers could not be passed on/);
});
