import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeFolders } from '../../../src/files/io.js';
import { temporaryFolder } from '../../support/folders.js';

const folder = temporaryFolder();

test('makes a folder with its parents, and says which were missing', async () => {
  const path = join(folder, 'a', 'b', 'c');
  expect(await makeFolders(path)).toEqual([join(folder, 'a'), join(folder, 'a', 'b'), path]);
  expect(existsSync(path)).toBe(true);
  expect(await makeFolders(path)).toEqual([]);
});

test('may make the same folder several times at once', async () => {
  const path = join(folder, 'x', 'y');
  await Promise.all([makeFolders(path), makeFolders(path)]);
  expect(existsSync(path)).toBe(true);
});

test('fails with the reason of the system where none can be made, also in /proc', async () => {
  await expect(makeFolders('/proc/nope/x')).rejects.toMatchObject({ code: 'ENOENT' });
  writeFileSync(join(folder, 'file'), '');
  await expect(makeFolders(join(folder, 'file', 'x'))).rejects.toMatchObject({ code: 'ENOTDIR' });
});
