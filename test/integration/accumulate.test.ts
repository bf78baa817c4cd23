/** `batch.accumulate`: slots of several micro-batches. */
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from '../support/folders.js';
import { ends, fingerprint, launch, readLines } from '../support/launched.js';

const folder = temporaryFolder();
const set = (...sets: string[]) => sets.flatMap((assignment) => ['--set', assignment]);
/** Four slots; what is recorded does not depend on how many steps there are to be. */
const RUN = set(
  'batch={global: 16, micro: 2, accumulate: 2}',
  'schedule.decay=constant',
  'schedule.warmup=1',
  'checkpoint.every=3',
);
const SHORT = set('validation.every=3', 'schedule.steps=6');

const four = join(folder, 'four');
let printed = '';
beforeAll(async () => {
  ({ output: printed } = await ends(launch(four, 4, ...RUN, ...SHORT), 0));
});

test('one, two and four workers have the same bits, also when one goes on where two stopped', async () => {
  const changing = join(folder, 'changing');
  expect(printed).toContain('16 samples = 4 slots x 2 micro-batches x 2; ');
  await ends(launch(changing, 2, ...RUN, ...SHORT, ...set('schedule.steps=3', 'exchange=grpc')), 0);
  const resumed = await ends(launch(changing, 1, ...RUN, ...SHORT), 0);
  expect(resumed.output).toMatch(/resuming from .*step-00000003/);
  const whole = fingerprint(four, 6);
  expect(whole.losses).toHaveLength(6);
  expect(fingerprint(changing, 6)).toEqual(whole);
});

test('differs from slots of one micro-batch by rounding', async () => {
  const runDir = join(folder, 'single');
  const { output } = await ends(
    launch(runDir, 1, ...RUN, ...SHORT, ...set('batch.accumulate=1', 'schedule.steps=3')),
    0,
  );
  expect(output).toContain('16 samples = 8 slots x 2; ');
  const numbers = (of: string) =>
    readLines(join(of, 'metrics.jsonl'))
      .filter(({ type, step }) => type === 'step' && (step as number) <= 3)
      .flatMap(({ loss, gradient_norm }) => [loss as number, gradient_norm as number]);
  const [single, accumulated] = [numbers(runDir), numbers(four)];
  expect(single).toHaveLength(6);
  // The samples, and what each gives in the first step, are the same.
  single.forEach((value, i) => {
    expect(Math.abs(accumulated[i]! / value - 1)).toBeLessThan(i < 2 ? 1e-6 : 1e-3);
  });
});
