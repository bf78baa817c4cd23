/** The lock of a run folder: whom it names, and what is no name. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test, vi } from 'vitest';
import { native } from '../../../src/native/load.js';
import { lockFile, lockOwner, waitForLock } from '../../../src/native/lock.js';
import { temporaryFolder } from '../../support/folders.js';

const ADDON = resolve('build/Release/orchestrator.node');

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

test('of a lock of an earlier version, the process counts, and when it began', () => {
  const path = join(temporaryFolder(), 'lock');
  writeFileSync(path, JSON.stringify({ pid: process.pid, started: '1' }));
  expect(lockOwner(path)).toBeNull();
  writeFileSync(path, JSON.stringify({ pid: process.pid, started: null }));
  expect(lockOwner(path)?.pid).toBe(process.pid);
  expect(() => lockFile(path)).toThrow(`${path} is held by process ${process.pid}`);
});

test('a lock ends with its process, whatever the file says', async () => {
  const path = join(temporaryFolder(), 'lock');
  const owner = { pid: 1, started: null, host: hostname(), namespace: 'here' };
  writeFileSync(path, JSON.stringify(owner));
  const holds = `const { lockFile } = require(${JSON.stringify(ADDON)});
    lockFile(require('node:fs').openSync(${JSON.stringify(path)}, 'r+'));
    console.log('locked');
    setInterval(() => {}, 1000);`;
  const holder = spawn(process.execPath, ['-e', holds], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');
  expect(() => lockFile(path)).toThrow(`${path} is held by process 1 of another container or machine`);
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  expect(lockOwner(path)).toBeNull();
  lockFile(path)();
});

test('a holder that does not say who it is is asked for a while, and not without a pause', async () => {
  const path = join(temporaryFolder(), 'lock');
  const unlock = await waitForLock(path);
  const looks = vi.spyOn(native(), 'isLocked');
  expect(() => lockOwner(path)).toThrow('is held by a process that does not say who it is');
  expect(looks.mock.calls.length).toBeLessThan(200);
  looks.mockRestore();
  unlock();
  expect(lockOwner(path)).toBeNull();
});
