/** The cases in cases/*.txt; `npx vitest run -u` writes what the rule does now, for a reviewer to read. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { replay } from '../../support/case-files.js';

const folder = join(import.meta.dirname, 'cases');

test.each(readdirSync(folder))('%s', async (name) => {
  const path = join(folder, name);
  await expect(replay(readFileSync(path, 'utf8'))).toMatchFileSnapshot(path);
});
