/**
 * Mutants of safetensors files: each is read in full or refused with an OrchestratorError, in bounded time
 * and memory.
 */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { OrchestratorError } from '../../../src/errors.js';
import { DTYPE_BYTES } from '../../../src/formats/safetensors/dtype.js';
import { Safetensors } from '../../../src/formats/safetensors/file.js';
import { encodeHeader, parseHeader, type TensorEntry } from '../../../src/formats/safetensors/header.js';
import { modelSpecFromTensors, modelTensors } from '../../../src/model/recognise.js';
import { temporaryFolder } from '../../support/folders.js';
import { FULL } from '../../support/full.js';
import { generator } from '../../support/random.js';

const [HEADERS, REAL_HEADERS, FILES] = FULL ? [20_000, 3_000, 1_000] : [5_000, 500, 300];

const NUMBERS = [
  '0',
  '1',
  '4',
  '255',
  '65536',
  '4294967295',
  '4294967296',
  '9007199254740991',
  '9007199254740992',
];
NUMBERS.push(
  '18446744073709551615',
  '-1',
  '1e9',
  '0.5',
  '99999999999999999999999999',
  'null',
  '[]',
  '{}',
  '""',
);
const PIECES = [
  '"',
  '\\',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '\u0000',
  '\\u0061',
  '"a":',
  '__proto__',
  '\xff',
  ' ',
];

type Random = () => number;
const pick = <T>(random: Random, items: readonly T[]): T => items[Math.floor(random() * items.length)]!;

/** A change to the header's text that keeps most of its structure. */
function mutateText(random: Random, text: string): string {
  const at = Math.floor(random() * text.length);
  switch (Math.floor(random() * 6)) {
    case 0: {
      const numbers = [...text.matchAll(/\d+/g)];
      if (numbers.length === 0) return text;
      const { index, 0: digits } = pick(random, numbers);
      return text.slice(0, index) + pick(random, NUMBERS) + text.slice(index + digits.length);
    }
    case 1:
      return text.slice(0, at) + pick(random, PIECES) + text.slice(at);
    case 2:
      return text.slice(0, at) + text.slice(at + 1 + Math.floor(random() * 20));
    case 3: {
      const from = Math.floor(random() * text.length);
      return text.slice(0, at) + text.slice(from, from + Math.floor(random() * 60)) + text.slice(at);
    }
    case 4:
      return text.slice(0, at);
    default:
      return text.slice(0, at) + String.fromCharCode(Math.floor(random() * 128)) + text.slice(at + 1);
  }
}

/** Changes a character or a number within a tensor's name. */
function mutateName(random: Random, text: string): string {
  const { index, 0: name } = pick(random, [...text.matchAll(/model\.diffusion_model\.[a-z0-9_.]+/gi)]);
  const numbers = [...name.matchAll(/\d+/g)];
  if (numbers.length > 0 && random() < 0.5) {
    const { index: at, 0: digits } = pick(random, numbers);
    const other = name.slice(0, at) + pick(random, NUMBERS.slice(0, 8)) + name.slice(at + digits.length);
    return text.slice(0, index) + other + text.slice(index + name.length);
  }
  const at = index + Math.floor(random() * name.length);
  return text.slice(0, at) + pick(random, ['x', '.', '0', '']) + text.slice(at + 1);
}

/** What must hold of every header that is accepted. */
function checkAccepted(tensors: Iterable<TensorEntry>, dataBytes: number): void {
  let at = 0;
  for (const { shape, elements, begin, end, dtype } of tensors) {
    expect(shape.reduce((product, side) => product * side, 1)).toBe(elements);
    expect(begin).toBe(at);
    expect(end - begin).toBe(elements * DTYPE_BYTES[dtype]);
    at = end;
  }
  expect(at).toBe(dataBytes);
}

describe('mutants', () => {
  test(`${HEADERS} headers are accepted in full or refused in words`, () => {
    const random = generator(20260101);
    const tensors = [
      { name: 'a', dtype: 'F32' as const, shape: [2, 3] },
      { name: 'b.weight', dtype: 'F16' as const, shape: [4] },
      { name: 'c', dtype: 'U8' as const, shape: [] },
    ];
    const { header, dataBytes } = encodeHeader(tensors, { format: 'pt', k: 'v' });
    const base = Buffer.from(header.subarray(8)).toString();
    let accepted = 0;
    let slowest = 0;
    for (let i = 0; i < HEADERS; i++) {
      let text = base;
      for (let n = Math.floor(random() * 3); n >= 0; n--) text = mutateText(random, text);
      const size = random() < 0.2 ? Math.floor(random() * 64) : dataBytes;
      const started = performance.now();
      try {
        const parsed = parseHeader(Buffer.from(text, random() < 0.5 ? 'latin1' : 'utf8'), size, 'mutant');
        checkAccepted(parsed.tensors.values(), size);
        accepted++;
      } catch (error) {
        if (!(error instanceof OrchestratorError) || error.code !== 'ERR_SAFETENSORS') {
          throw new Error(`mutant ${i}: ${JSON.stringify(text)}`, { cause: error });
        }
      }
      slowest = Math.max(slowest, performance.now() - started);
    }
    // Changes within names, metadata and the padding leave a valid header.
    expect(accepted).toBeGreaterThan(HEADERS / 100);
    expect(accepted).toBeLessThan(HEADERS / 2);
    expect(slowest).toBeLessThan(10_000);
  });

  test(`${REAL_HEADERS} headers of real weights give a model or are refused in words`, () => {
    const random = generator(20260102);
    const fixture = new URL('../../fixtures/mmdit/sd35-medium-like.weights.safetensors', import.meta.url);
    const whole = readFileSync(fixture);
    const headerBytes = Number(whole.readBigUInt64LE(0));
    const base = whole.toString('latin1', 8, 8 + headerBytes);
    const counts = { models: 0, headers: 0, refused: 0 };
    for (let i = 0; i < REAL_HEADERS; i++) {
      const text = random() < 0.5 ? mutateName(random, base) : mutateText(random, base);
      try {
        const { tensors } = parseHeader(
          Buffer.from(text, 'latin1'),
          whole.length - 8 - headerBytes,
          'mutant',
        );
        counts.headers++;
        modelSpecFromTensors(modelTensors(tensors, 'mutant').shapes, 'mutant');
        counts.models++;
      } catch (error) {
        if (!(error instanceof OrchestratorError)) throw new Error(`mutant ${i}: ${text}`, { cause: error });
        counts.refused++;
      }
    }
    // Half of the mutants only have another name, which makes a good header of a wrong model.
    expect(counts.headers).toBeGreaterThan(REAL_HEADERS / 3);
    expect(counts.refused).toBeGreaterThan((REAL_HEADERS * 5) / 6);
  });

  test(`${FILES} complete small files with flipped bits are read or refused`, async () => {
    const random = generator(20260103);
    const path = join(temporaryFolder(), 'mutant.safetensors');
    const { header, dataBytes } = encodeHeader(
      [
        { name: 'a', dtype: 'F64', shape: [3] },
        { name: 'b', dtype: 'F32', shape: [2, 2] },
        { name: 'c', dtype: 'BF16', shape: [5] },
      ],
      {},
    );
    const base = Buffer.concat([header, Buffer.alloc(dataBytes, 0x5a)]);
    let read = 0;
    for (let i = 0; i < FILES; i++) {
      const mutant = Buffer.from(base);
      for (let n = 0; n < 1 + (i % 3); n++) {
        mutant[Math.floor(random() * mutant.length)]! ^= 1 << Math.floor(random() * 8);
      }
      await writeFile(path, mutant);
      try {
        const file = await Safetensors.open(path);
        try {
          for (const name of file.tensors.keys()) await file.read(name);
          read++;
        } finally {
          await file.close();
        }
      } catch (error) {
        if (!(error instanceof OrchestratorError)) throw new Error(`mutant ${i}`, { cause: error });
      }
    }
    // Those whose flips fall within the data.
    expect(read).toBeGreaterThan((3 * FILES) / 100);
    expect(read).toBeLessThan((9 * FILES) / 10);
  });
});
