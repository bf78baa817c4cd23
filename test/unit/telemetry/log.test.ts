import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { logFile } from '../../../src/telemetry/log.js';
import { temporaryFolder } from '../../support/folders.js';

/** Bytes for which the disk has room; null: it has room for all. */
const disk = vi.hoisted(() => ({ room: null as number | null }));

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const writeSync = (fd: number, bytes: Buffer, at: number) => {
    if (disk.room === null) return fs.writeSync(fd, bytes, at, Math.min(7, bytes.length - at));
    if (disk.room === 0) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    const written = fs.writeSync(fd, bytes, at, Math.min(disk.room, bytes.length - at));
    disk.room -= written;
    return written;
  };
  return { ...fs, writeSync };
});

test('a line for which a full disk has no room does not run into the next one', () => {
  const path = join(temporaryFolder(), 'run.log');
  const log = logFile(path);
  log.begin?.();
  log.note?.('info', 'written in pieces');
  disk.room = 10;
  log.note?.('info', 'cut off');
  log.note?.('info', 'lost');
  disk.room = null;
  log.note?.('info', 'there is room again');
  void log.close?.();
  const lines = readFileSync(path, 'utf8').split('\n');
  expect(lines).toHaveLength(4);
  const messageOf = (line: string | undefined) => JSON.parse(line!).message as string;
  expect(messageOf(lines[0])).toBe('written in pieces');
  expect(lines[1]).toHaveLength(10);
  expect(messageOf(lines[2])).toBe('there is room again');
});
