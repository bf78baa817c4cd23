import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { openForReading, readFully } from '../../../src/files/io.js';
import { FileReader } from '../../../src/files/reader.js';
import { because } from '../../support/needs.js';

/** A file with a size that the system opens and does not read: a loopback device has no speed. */
const UNREADABLE = '/sys/class/net/lo/speed';
const reason = existsSync(UNREADABLE) ? null : `needs ${UNREADABLE}`;

test.skipIf(reason)(because('a read that fails names the file and the place', reason), async () => {
  const failure = expect.objectContaining({
    code: 'ERR_FILE_TRUNCATED',
    message: expect.stringMatching(`^Cannot read ${UNREADABLE} at byte 0: .*\\(EINVAL\\)$`),
  });
  expect(() => FileReader.using(UNREADABLE, (reader) => reader.read(0, reader.bytes, 'all'))).toThrow(
    failure,
  );
  const { handle, size } = await openForReading(UNREADABLE);
  await expect(readFully(handle, new Uint8Array(size), 0, UNREADABLE)).rejects.toEqual(failure);
  await handle.close();
});
