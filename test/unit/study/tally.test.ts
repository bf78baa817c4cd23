import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { listCheckpoints } from '../../../src/checkpoint/retention.js';
import type { StudyRun } from '../../../src/study/expand.js';
import { type RunState, rewindToValidation, runState, StudyFolder } from '../../../src/study/folder.js';
import { bestCheckpoint } from '../../../src/study/score.js';
import { Tally } from '../../../src/study/tally.js';
import { validationsOf } from '../../../src/study/validations.js';
import { temporaryFolder } from '../../support/folders.js';

const run = (name: string) => ({ name, config: { schedule: { steps: 100 } } }) as StudyRun;

async function tallyOf(states: Record<string, RunState>, evaluated: boolean) {
  const folder = await StudyFolder.open(temporaryFolder());
  const steps = (name: string, step: number) => {
    mkdirSync(folder.runDir(name), { recursive: true });
    writeFileSync(join(folder.runDir(name), 'ledger.jsonl'), `{"step":${step},"rows":[]}\n`);
  };
  const runs = Object.keys(states).map(run);
  return { folder, steps, runs, tally: new Tally(folder, runs, new Map(Object.entries(states)), evaluated) };
}

describe('how far a study is', () => {
  test('is told by steps and scores, with the time that remains', async () => {
    const { folder, steps, runs, tally } = await tallyOf({ a: 'scored', b: 'new', c: 'new' }, true);
    expect(tally.open.map(({ name }) => name)).toEqual(['b', 'c']);
    expect(tally.progress()).toMatchObject({ done: 1, total: 3, running: [], remaining: null });
    const current = tally.begin(runs[1]!);
    steps('b', 40);
    const training = tally.progress();
    expect(training.running).toEqual(['b (step 40/100)']);
    // Training is taken for 0.7 of a run: 0.28 of 2 runs are done.
    expect(training.remaining! / training.seconds).toBeCloseTo((2 - 0.28) / 0.28, 6);
    tally.trained('b');
    current.part = 'scoring';
    current.scored = 0.5;
    expect(tally.progress().running).toEqual(['b (scoring, 50 %)']);
    // What was measured: scoring takes as long as training.
    tally.scored('b', 10, 10);
    tally.end(current);
    steps('c', 50);
    const { done, running, remaining, seconds } = tally.progress();
    expect([done, running]).toEqual([2, []]);
    expect(remaining! / seconds).toBeCloseTo((2 - 1.25) / 1.25, 6);
    folder.close();
  });

  test('runs without scores are complete when they are trained, and failed ones are not waited for', async () => {
    const { folder, steps, runs, tally } = await tallyOf({ a: 'begun', b: 'new' }, false);
    const current = tally.begin(runs[0]!);
    steps('a', 100);
    tally.trained('a');
    tally.end(current);
    expect([tally.done, tally.state('a')]).toEqual([1, 'scored']);
    tally.failed.push('b');
    expect(tally.progress().remaining).toBe(0);
    folder.close();
  });

  test('what a failed run has done does not bring the end nearer', async () => {
    const { folder, steps, tally } = await tallyOf({ a: 'new', b: 'new' }, false);
    steps('a', 90);
    tally.failed.push('a');
    steps('b', 50);
    const { remaining, seconds } = tally.progress();
    expect(remaining! / seconds).toBeCloseTo(1, 6);
    folder.close();
  });
});

describe('the checkpoint that is scored', () => {
  const withCheckpoints = (losses: Record<number, number>, steps: number[]) => {
    const dir = temporaryFolder();
    for (const step of steps) {
      mkdirSync(join(dir, 'checkpoints', `step-${String(step).padStart(8, '0')}`), { recursive: true });
    }
    const lines = Object.entries(losses).map(([step, mean]) =>
      JSON.stringify({ type: 'validation', step: Number(step), seconds: 1, ema: { mean, bins: {} } }),
    );
    writeFileSync(join(dir, 'metrics.jsonl'), `{"type":"step","step":1}\n${lines.join('\n')}\n`);
    return dir;
  };

  test.each([
    ['the lowest loss', { 10: 0.5, 20: 0.3, 30: 0.4 }, [10, 20, 30], 20],
    ['the lowest of those that are there', { 10: 0.5, 20: 0.3, 30: 0.4 }, [10, 30], 30],
    ['the earliest of equal losses', { 10: 0.3, 20: 0.3 }, [10, 20], 10],
    ['the last without a validation', {}, [10, 20], 20],
  ])('%s', async (_, losses, steps, expected) => {
    expect(await bestCheckpoint(withCheckpoints(losses, steps))).toMatchObject({ step: expected });
  });

  test('none is an error', async () => {
    await expect(bestCheckpoint(withCheckpoints({ 10: 1 }, []))).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_MISSING',
    });
  });

  test('a validation that a run was stopped in is done when it goes on', async () => {
    const remaining = async (losses: Record<number, number>, steps: number[], last = 100) => {
      const dir = withCheckpoints(losses, steps);
      await rewindToValidation(dir, { every: 10, steps: last });
      return (await listCheckpoints(join(dir, 'checkpoints'))).map(({ step }) => step).reverse();
    };
    expect(await remaining({ 10: 1, 20: 1 }, [10, 20])).toEqual([10, 20]);
    expect(await remaining({ 10: 1, 20: 1 }, [10, 20, 25])).toEqual([10, 20, 25]);
    expect(await remaining({ 10: 1 }, [10, 18, 20])).toEqual([10, 18]);
    expect(await remaining({ 20: 1 }, [5, 10, 20])).toEqual([5]);
    expect(await remaining({}, [10])).toEqual([]);
    expect(await remaining({}, [])).toEqual([]);
    expect(await remaining({ 10: Number.NaN }, [10])).toEqual([10]);
    // The last step is validated whatever its number.
    expect(await remaining({ 10: 1 }, [10, 15], 15)).toEqual([10]);
    expect(await remaining({ 10: 1, 15: 1 }, [10, 15], 15)).toEqual([10, 15]);
    const odd = { name: '.', hash: '', steps: 15, every: 10 } as never;
    expect(await runState(withCheckpoints({ 10: 1, 15: 1 }, [15]), odd, null)).toBe('scored');
    expect(await runState(withCheckpoints({ 10: 1 }, [15]), odd, null)).toBe('begun');
    const trained = { name: '.', hash: '', steps: 20, every: 10 } as never;
    expect(await runState(withCheckpoints({ 10: 1, 20: 1 }, [20]), trained, null)).toBe('scored');
    expect(await runState(withCheckpoints({ 10: 1 }, [20]), trained, null)).toBe('begun');
  });

  test('validations without the error of the noise estimate are read, too', () => {
    expect(validationsOf(withCheckpoints({ 10: 0.5 }, []))).toEqual([
      { step: 10, ema: { mean: 0.5, epsilon_error: {} } },
    ]);
  });
});
