import { appendFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { errorIn } from '../../../src/study/execute.js';
import { temporaryFolder } from '../../support/folders.js';

test('the error of a command is the last one in its own part of the log', () => {
  const log = join(temporaryFolder(), 'run.log');
  writeFileSync(log, 'error ERR_CONFIG: of a call before\n');
  expect(errorIn(log, 0)).toBe('ERR_CONFIG: of a call before');
  const { size } = statSync(log);
  expect(errorIn(log, size)).toBeNull();
  appendFileSync(log, 'step 1\nerror ERR_PLAN: first\nerror ERR_CUDA: last\n  hint\n');
  expect(errorIn(log, size)).toBe('ERR_CUDA: last');
  // Somebody has cut the file.
  expect(errorIn(log, size + 1_000_000)).toBeNull();
});
