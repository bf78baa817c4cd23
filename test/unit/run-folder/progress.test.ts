import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lossOf, progressOf } from '../../../src/run-folder/progress.js';
import { temporaryFolder } from '../../support/folders.js';

function runDir(ledger: string | null, ...checkpoints: string[]): string {
  const folder = temporaryFolder();
  if (ledger !== null) writeFileSync(join(folder, 'ledger.jsonl'), ledger);
  for (const name of checkpoints) mkdirSync(join(folder, 'checkpoints', name), { recursive: true });
  return folder;
}

const line = (step: number, rows = 1) =>
  `${JSON.stringify({ step, slots: [Array.from({ length: rows }, (_, i) => i)] })}\n`;

test.each([
  ['no ledger', null, 0],
  ['an empty ledger', '', 0],
  ['half a line', line(1).slice(0, -1), 0],
  ['one line', line(1), 1],
  ['a line and a half', line(1) + line(2).slice(0, -1), 1],
  ['lines longer than what is read first', line(1, 50_000) + line(2, 50_000), 2],
  ['one long line', line(7, 50_000), 7],
])('the last committed step of %s', async (_, ledger, step) => {
  expect(await progressOf(runDir(ledger))).toEqual({ step, checkpoint: null });
});

test('the last checkpoint, and what would be lost without another', async () => {
  const folder = runDir(line(6) + line(7), 'step-00000002', 'step-00000006');
  const progress = await progressOf(folder);
  const checkpoint = { step: 6, path: join(folder, 'checkpoints', 'step-00000006') };
  expect(progress).toEqual({ step: 7, checkpoint });
  expect(lossOf(progress)).toBe('1 step since the checkpoint of step 6 is lost');
  expect(lossOf({ step: 9, checkpoint })).toBe('3 steps since the checkpoint of step 6 are lost');
  expect(lossOf({ step: 6, checkpoint })).toBeNull();
  expect(lossOf({ step: 2, checkpoint: null })).toBe('there is no checkpoint yet: 2 steps are lost');
  expect(lossOf({ step: 0, checkpoint: null })).toBeNull();
});
