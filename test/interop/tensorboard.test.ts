/** TensorBoard's own reader (test/support/event-reader.py), on the files of a run. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tensorboardFile } from '../../src/telemetry/tensorboard.js';
import { eventFiles, needsTensorboard, readByTensorboard } from '../support/event-files.js';
import { temporaryFolder } from '../support/folders.js';
import { because } from '../support/needs.js';
import { record } from '../support/records.js';

const reason = needsTensorboard();
const name =
  "TensorBoard's reader gives every step once, after a kill in the middle of a record and a resume";
const TIME = 1795780800.25;

test.skipIf(reason)(because(name, reason), () => {
  const folder = temporaryFolder();
  const write = (firstStep: number, steps: readonly number[], loss: number) => {
    const sink = tensorboardFile(folder, `loss: ${loss}\n`, () => new Date(1000 * TIME));
    sink.start?.({ firstStep, validations: [], recordedSeconds: 0 });
    for (const step of steps) sink.step?.({ ...record, step, loss });
    void sink.close?.();
  };
  write(1, [1, 2, 3, 4], 0.5);
  const first = join(folder, eventFiles(folder)[0]!);
  writeFileSync(first, readFileSync(first).subarray(0, -20));
  write(3, [3, 4, 5, 4], 0.25);

  const { scalars, texts } = readByTensorboard(folder);
  expect(scalars['train/loss']).toEqual([
    [1, 0.5, TIME],
    [2, 0.5, TIME],
    [3, 0.25, TIME],
    [4, 0.25, TIME],
  ]);
  expect(scalars['attention/block 1 attn2/image/max_abs_logit']?.map(([step]) => step)).toEqual([1, 2, 3, 4]);
  expect(texts).toEqual({
    'configuration/text_summary': [
      [0, '```yaml\nloss: 0.5\n```'],
      [2, '```yaml\nloss: 0.25\n```'],
    ],
  });
});
