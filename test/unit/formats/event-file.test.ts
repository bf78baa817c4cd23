import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { crc32c, eventRecord, FILE_VERSION, textValue } from '../../../src/formats/event-file.js';

test('CRC-32C: the examples of RFC 3720, B.4', () => {
  const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
  expect(crc32c(ascending)).toBe(0x46dd794e);
  expect(crc32c(ascending.toReversed())).toBe(0x113fdb5c);
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
});

test("records have the bytes that TensorBoard's own writer gives them (test/fixtures/tensorboard/make.py)", () => {
  const scalars = [
    { tag: 'train/loss', simpleValue: 0.42134 },
    { tag: 'attention/block 3/image/max_abs_logit', simpleValue: 0 },
    { tag: 'x'.repeat(300), simpleValue: Number.POSITIVE_INFINITY },
  ];
  const records = [
    eventRecord({ wallTime: 1764230400.25, fileVersion: FILE_VERSION }),
    eventRecord({ wallTime: 1764230400.5, step: 7, sessionLog: { status: 'START' } }),
    eventRecord({ wallTime: 1764230401, step: 6, summary: textValue('a/text', '## ü') }),
    eventRecord({ wallTime: 1764230402.125, step: 3_000_000_000, summary: { value: scalars } }),
  ];
  const expected = readFileSync('test/fixtures/tensorboard/events.bin');
  expect(Buffer.concat(records).toString('hex')).toBe(expected.toString('hex'));
});
