import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { removeStaged } from '../../../src/checkpoint/retention.js';
import { temporaryFolder } from '../../support/folders.js';

const folder = temporaryFolder();

test('what was staged and will not be published is removed, and nothing else', async () => {
  const staged = ['.partial-step-00000008-17-00c0ffee', '.partial-step-00000009-17-00c0ffee'];
  const others = ['step-00000004', '.replaced-step-00000004-17-00c0ffee', '.partial-notes'];
  for (const name of [...staged, ...others]) {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, 'model.safetensors'), 'half');
  }
  await removeStaged(folder, (step, name) => step < 9 && name !== staged[1]);
  expect(readdirSync(folder).sort()).toEqual([...others, staged[1]].sort());
  await removeStaged(join(folder, 'none'), () => true);
});
