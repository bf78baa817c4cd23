import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { requireWritable, syncFolder, syncFolderNow } from '../../../src/files/io.js';
import { temporaryFolder } from '../../support/folders.js';

test('a path at which no file can be written is refused, one whose folders are missing is not', () => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, 'pictures'));
  writeFileSync(join(folder, 'file'), '');
  for (const path of ['new.png', 'file', 'pictures/a.png', 'new/folders/a.png'])
    expect(() => requireWritable(join(folder, path)), path).not.toThrow();
  const refused = (why: RegExp) =>
    expect.objectContaining({ code: 'ERR_FILE_WRITE', message: expect.stringMatching(why) });
  expect(() => requireWritable(join(folder, 'pictures'))).toThrow(refused(/pictures.*it is a folder/));
  expect(() => requireWritable(join(folder, 'file/a.png'))).toThrow(refused(/file is a file, not a folder/));
});

test('a folder that the system cannot flush, such as those of /proc, is left alone; one that is missing is not', async () => {
  await syncFolder('/proc');
  syncFolderNow('/proc');
  const missing = join(temporaryFolder(), 'missing');
  await expect(syncFolder(missing)).rejects.toMatchObject({ code: 'ENOENT' });
  expect(() => syncFolderNow(missing)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
});
