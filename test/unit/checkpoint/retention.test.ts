import { mkdir, readdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { resolveCheckpoint, resolveResume } from '../../../src/checkpoint/resume.js';
import {
  listCheckpoints,
  recoverStore,
  retainCheckpoints,
  setAsideLater,
} from '../../../src/checkpoint/retention.js';
import { checkpointName } from '../../../src/checkpoint/store.js';
import { contentOf, runFolder, saveCheckpoint } from '../../support/checkpoints.js';

describe('retention', () => {
  const steps = async (root: string) => (await listCheckpoints(root)).map(({ step }) => step).reverse();

  const keeping = (keep: number) => ({ keep, keepEvery: 0, keepBest: false });

  test('keeps the latest, and removes the rest', async () => {
    const { root } = runFolder();
    for (const step of [10, 20, 30, 40]) await saveCheckpoint(root, contentOf(step, step));
    await retainCheckpoints(root, keeping(2), 40, new Map());
    expect(await readdir(root)).toEqual(['step-00000030', 'step-00000040']);
  });

  test('never removes the multiples of keep_every', async () => {
    const { root } = runFolder();
    for (let step = 10; step <= 90; step += 10) {
      await mkdir(join(root, checkpointName(step)), { recursive: true });
      await retainCheckpoints(root, { ...keeping(2), keepEvery: 30 }, step, new Map());
    }
    expect(await steps(root)).toEqual([30, 60, 80, 90]);
  });

  test('keeps the one of the lowest validation loss, until another has a lower one', async () => {
    const { root } = runFolder();
    const losses = new Map<number, number>();
    const kept: number[][] = [];
    for (const [i, loss] of [0.9, 0.5, 0.7, 0.5, 0.8, 0.3, 0.6, 0.4].entries()) {
      const step = 10 * (i + 1);
      // The checkpoint of step 60 could not be written, so its loss does not count.
      if (step !== 60) {
        await saveCheckpoint(root, contentOf(step, step));
        await retainCheckpoints(root, { ...keeping(2), keepBest: true }, step, losses);
      }
      losses.set(step, loss);
      kept.push(await steps(root));
    }
    expect(kept.slice(2)).toEqual([
      [20, 30],
      [20, 30, 40],
      [20, 40, 50],
      [20, 40, 50],
      [20, 50, 70],
      [20, 70, 80],
    ]);
    await saveCheckpoint(root, contentOf(90, 90));
    await retainCheckpoints(root, { ...keeping(1), keepBest: true }, 90, losses);
    expect(await steps(root)).toEqual([80, 90]);
  });

  test('leaves checkpoints of later steps alone', async () => {
    const { root } = runFolder();
    for (const step of [10, 20, 30]) await saveCheckpoint(root, contentOf(step, step));
    await retainCheckpoints(root, keeping(1), 20, new Map());
    expect(await steps(root)).toEqual([20, 30]);
  });

  test('renames later checkpoints when a run resumes from an earlier one', async () => {
    const { dir, root } = runFolder();
    for (const step of [10, 20, 30]) await saveCheckpoint(root, contentOf(step, step));
    const aside = await setAsideLater(root, 10);
    expect((await listCheckpoints(root)).map(({ step }) => step)).toEqual([10]);
    expect((await resolveResume('auto', dir))?.manifest.step).toBe(10);
    // They can still be resumed from by their path.
    expect((await resolveCheckpoint(aside[0]!)).manifest.step).toBe(30);
    expect(await setAsideLater(root, 10)).toEqual([]);
  });

  test('orders steps by number beyond eight digits', async () => {
    const { root } = runFolder();
    for (const step of [99_999_999, 100_000_000]) await saveCheckpoint(root, contentOf(step, step));
    expect((await listCheckpoints(root)).map(({ step }) => step)).toEqual([100_000_000, 99_999_999]);
  });

  test('mends what a killed process left, and nothing else', async () => {
    const { dir, root } = runFolder();
    await saveCheckpoint(root, contentOf(10, 1));
    await saveCheckpoint(root, contentOf(20, 1));
    // Killed while writing, while removing, and between the two renames of a replacement.
    await mkdir(join(root, '.partial-step-00000030-1-aa'));
    await writeFile(join(root, '.partial-step-00000030-1-aa', 'model.safetensors'), 'x');
    await rename(join(root, 'step-00000020'), join(root, '.replaced-step-00000020-1-bb'));
    await mkdir(join(root, '.replaced-step-00000010-1-cc'));
    await writeFile(join(root, 'notes.txt'), 'mine');
    const done = await recoverStore(root);
    expect(done).toHaveLength(3);
    expect((await readdir(root)).sort()).toEqual(['notes.txt', 'step-00000010', 'step-00000020']);
    expect((await resolveResume('auto', dir))?.manifest.step).toBe(20);
    expect(await recoverStore(root)).toEqual([]);
    expect(await recoverStore(join(dir, 'nowhere'))).toEqual([]);
  });
});
