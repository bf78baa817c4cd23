import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type CheckpointNeed, checkRoom } from '../../../src/checkpoint/room.js';
import { checkpointName } from '../../../src/checkpoint/store.js';
import { loadConfig } from '../../../src/config/load.js';
import { freeBytes } from '../../../src/files/io.js';
import { native } from '../../../src/native/load.js';
import { estimate } from '../../../src/planning/estimate.js';
import { contentOf, saveCheckpoint } from '../../support/checkpoints.js';
import { temporaryFolder } from '../../support/folders.js';

/** A run whose checkpoints each take this share of the free space. */
async function needOf(root: string, share: number, changes: Partial<CheckpointNeed> = {}) {
  const bytes = ((await freeBytes(root)) ?? 0) * share;
  return { bytes, retention: { keep: 3, keepEvery: 0, keepBest: false }, steps: 1000, every: 10, ...changes };
}

test('what does not fit once is refused, with the bytes, the free ones, and where', async () => {
  const root = join(temporaryFolder(), 'run', 'checkpoints');
  const { refusal, warning } = await checkRoom(root, await needOf(root, 2));
  expect(refusal).toMatchObject({
    code: 'ERR_CHECKPOINT_WRITE',
    message: expect.stringMatching(
      /^A checkpoint of this run needs [\d.]+ [KMGT]iB and 4\.0 MiB for its records, and the disk of .*run\/checkpoints has [\d.]+ [KMGT]iB free: there is no room for one checkpoint$/,
    ),
    hint: expect.stringContaining('--run-dir'),
  });
  expect(warning).toBeNull();
});

test('what fits is neither refused nor warned of', async () => {
  const root = temporaryFolder();
  expect(await checkRoom(root, await needOf(root, 0.1))).toMatchObject({ refusal: null, warning: null });
});

test('those that are kept are warned of together with the one that is being written', async () => {
  const root = temporaryFolder();
  const warningOf = async (changes: Partial<CheckpointNeed>, share = 0.3) =>
    (await checkRoom(root, await needOf(root, share, changes))).warning;
  expect(await warningOf({})).toMatch(
    /^A checkpoint of this run needs .*, and .* will hold up to 4 at once: .* more, of which .* are free\. .*free some space, or lower checkpoint\.keep$/,
  );
  expect(await warningOf({ retention: { keep: 2, keepEvery: 0, keepBest: false } })).toBeNull();
  // Milestones stay, and a short run writes fewer than it might keep.
  expect(await warningOf({ retention: { keep: 2, keepEvery: 0, keepBest: true } })).toContain(
    'up to 4 at once',
  );
  expect(await warningOf({ retention: { keep: 1, keepEvery: 500, keepBest: false } })).toMatch(
    /up to 4 at once: .*free some space, or raise checkpoint\.keep_every \(0 = none\)$/,
  );
  expect(await warningOf({ steps: 15 })).toBeNull();
  expect(await warningOf({ every: 0 })).toBeNull();
  // Those of a run that is resumed are on the disk already.
  for (const step of [10, 20]) mkdirSync(join(root, checkpointName(step)));
  expect(await warningOf({})).toBeNull();
  expect(await warningOf({}, 0.6)).toContain('will hold up to 4 at once, of which 2 are there: ');
});

test('a path where no folder can be is left to those who make folders', async () => {
  const file = join(temporaryFolder(), 'file');
  writeFileSync(file, '');
  const root = join(file, 'run', 'checkpoints');
  expect(await checkRoom(root, await needOf(root, 0.1))).toMatchObject({ refusal: null, warning: null });
});

test('the bytes of a checkpoint are those that one takes', async () => {
  const sets = ['data.path=test/fixtures/huggingface/fixed'];
  const config = loadConfig('test/integration/training.yaml', sets);
  for (const changed of [config, { ...config, ema: null }]) {
    const { checkpointBytes, spec } = await estimate(native(), changed, 1, null);
    const content = contentOf(1, 1, spec.model);
    const state = new Map([...content.state].filter(([name]) => changed.ema !== null || name !== 'ema'));
    const { manifest } = await saveCheckpoint(temporaryFolder(), { ...content, state });
    const files = Object.values(manifest.files).reduce((sum, { bytes }) => sum + bytes, 0);
    // The headers are not counted.
    expect(files - checkpointBytes).toBeGreaterThan(0);
    expect(files - checkpointBytes).toBeLessThan(50_000);
  }
});
