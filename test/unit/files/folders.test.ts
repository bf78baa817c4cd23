import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { freeBytes, isOpenToAll, makeFolders, syncFolder } from '../../../src/files/io.js';
import { temporaryFolder } from '../../support/folders.js';

const folder = temporaryFolder();

test('makes a folder with its parents', async () => {
  const path = join(folder, 'a', 'b', 'c');
  for (let time = 0; time < 2; time++) {
    await makeFolders(path);
    expect(existsSync(path)).toBe(true);
  }
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

test('flushes folders, passes over those that cannot be, and fails for what is none', async () => {
  await syncFolder(folder);
  await syncFolder('/proc/self');
  await expect(syncFolder(join(folder, 'nowhere'))).rejects.toMatchObject({ code: 'ENOENT' });
});

test('only a folder of another user that everybody may write in is open to all', () => {
  const [me, other, root] = [1000, 1001, 0];
  expect(isOpenToAll({ uid: other, mode: 0o40777 }, me)).toBe(true);
  expect(isOpenToAll({ uid: other, mode: 0o41777 }, me)).toBe(true);
  expect(isOpenToAll({ uid: other, mode: 0o40775 }, me)).toBe(false);
  expect(isOpenToAll({ uid: me, mode: 0o40777 }, me)).toBe(false);
  expect(isOpenToAll({ uid: root, mode: 0o40777 }, me)).toBe(false);
  expect(isOpenToAll({ uid: other, mode: 0o40777 }, root)).toBe(false);
});

test('free bytes are those of the nearest parent; where a file system has no size they are unknown', async () => {
  expect(await freeBytes(join(folder, 'not', 'there', 'yet'))).toBeGreaterThan(0);
  expect(await freeBytes('/proc/nope')).toBeNull();
});
