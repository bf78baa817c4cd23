/** The lock of a run folder: whom it names, and what is no name. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lockFile, lockOwner } from '../../../src/files/lock.js';
import { temporaryFolder } from '../../support/folders.js';

test('a lock names this process until it is released, and refuses others', () => {
  const path = join(temporaryFolder(), 'lock');
  const unlock = lockFile(path);
  expect(lockOwner(path)?.pid).toBe(process.pid);
  expect(() => lockFile(path)).toThrow(expect.objectContaining({ code: 'ERR_RUN_LOCKED' }));
  unlock();
  expect(existsSync(path)).toBe(false);
});

// `orchestrator stop` signals the owner: 0 and negative numbers would be groups of processes, or all of them.
test.each(['', '5', 'null', '{}', '{"pid":-1}', '{"pid":0}', '{"pid":"1"}', '{"pid":1.5}', '{"pid":1e300}'])(
  'the text %j names nobody, and is replaced',
  (text) => {
    const path = join(temporaryFolder(), 'lock');
    writeFileSync(path, text);
    expect(lockOwner(path)).toBeNull();
    const unlock = lockFile(path);
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ pid: process.pid });
    unlock();
  },
);

test('a process that began at another time has only the same id', () => {
  const path = join(temporaryFolder(), 'lock');
  writeFileSync(path, JSON.stringify({ pid: process.pid, started: '1' }));
  expect(lockOwner(path)).toBeNull();
});
