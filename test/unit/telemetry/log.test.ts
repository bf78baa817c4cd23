import fs, { readFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { logFile } from '../../../src/telemetry/log.js';
import { temporaryFolder } from '../../support/folders.js';

afterEach(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
});

/** Bytes for which the disk has room; null: it has room for all. */
let room: number | null = null;

function limitDisk(): void {
  const { writeSync } = fs;
  vi.spyOn(fs, 'writeSync').mockImplementation((fd, bytes, at) => {
    if (room === 0) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    const data = bytes as unknown as Uint8Array;
    const from = at as number;
    const written = writeSync(fd, data, from, Math.min(room ?? 7, data.length - from));
    if (room !== null) room -= written;
    return written;
  });
  syncBuiltinESMExports();
}

test('a line for which a full disk has no room does not run into the next one', () => {
  const path = join(temporaryFolder(), 'run.log');
  const log = logFile(path);
  log.begin?.();
  limitDisk();
  log.note?.('info', 'written in pieces');
  room = 10;
  log.note?.('info', 'cut off');
  log.note?.('info', 'lost');
  room = null;
  log.note?.('info', 'there is room again');
  void log.close?.();
  const lines = readFileSync(path, 'utf8').split('\n');
  expect(lines).toHaveLength(4);
  const messageOf = (line: string | undefined) => JSON.parse(line!).message as string;
  expect(messageOf(lines[0])).toBe('written in pieces');
  expect(lines[1]).toHaveLength(10);
  expect(messageOf(lines[2])).toBe('there is room again');
});
