/**
 * Property-based fuzzing of what reads bytes of others: every input is read, or refused by an OrchestratorError,
 * in bounded time and memory. The seeds are fixed, so a failure is found again; it says the smallest input.
 *
 * `ORCHESTRATOR_FUZZ_SECONDS=1200` fuzzes each parser for so long, from a seed that is printed.
 */
import fc from 'fast-check';
import { expect } from 'vitest';
import { ERRORS, OrchestratorError } from '../../src/errors.js';
import { FULL } from './full.js';

const SECONDS = Number(process.env.ORCHESTRATOR_FUZZ_SECONDS ?? 0);
const [RUNS, RUNS_MS] = FULL ? [3_000, 15_000] : [300, 1_500];
/** A machine may be busy; what hangs takes longer. */
const SLOWEST_MS = 10_000;
/** No input is longer than some 10 KiB, and nothing needs more for one than this. */
const MOST_BYTES = 64 << 20;

/** Time limit of a test that fuzzes. */
export const FUZZ_MS = SECONDS > 0 ? SECONDS * 2_000 + 60_000 : 120_000;

/** Numbers at which lengths and offsets overflow. */
const NUMBERS = [0, 1, -1, 7, 8, 127, 255, 256, 65_535, 2 ** 31 - 1, -(2 ** 31), 2 ** 32 - 1];
/** Pieces of texts on which parsers stumble. */
const PIECES = [
  ...[
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"',
    '\\',
    '\n',
    '\0',
    '\x1b[31m',
    '\u202e',
    'é',
    '😀',
    '\ud800',
    '__proto__',
  ],
  ...[
    'null',
    'true',
    '-1',
    '1e999',
    '9007199254740993',
    '18446744073709551616',
    'constructor',
    '../../',
    '/',
  ],
  ...['{"a":', '[[[[', '- ', '&a ', '*a', '!!js ', '<<: ', '|', '%', '..', '"__proto__":{"x":1},'],
];

type Edit =
  | { kind: 'set'; at: number; byte: number }
  | { kind: 'number'; at: number; value: number; bytes: number }
  | { kind: 'insert'; at: number; bytes: Uint8Array }
  | { kind: 'delete'; at: number; length: number }
  | { kind: 'copy'; at: number; from: number; length: number }
  | { kind: 'cut'; at: number };

/** A place in an input, as a share of its length. */
const place = fc.double({ min: 0, max: 1, noNaN: true });
const length = fc.integer({ min: 1, max: 200 });
const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), at: place, byte: fc.nat(255) }),
  fc.record({
    kind: fc.constant('number' as const),
    at: place,
    value: fc.constantFrom(...NUMBERS),
    bytes: fc.constantFrom(1, 2, 4, 8),
  }),
  fc.record({
    kind: fc.constant('insert' as const),
    at: place,
    bytes: fc.oneof(
      fc.uint8Array({ maxLength: 16 }),
      fc.constantFrom(...PIECES).map((piece) => Uint8Array.from(Buffer.from(piece))),
    ),
  }),
  fc.record({ kind: fc.constant('delete' as const), at: place, length }),
  fc.record({ kind: fc.constant('copy' as const), at: place, from: place, length }),
  fc.record({ kind: fc.constant('cut' as const), at: place }),
);

function edited(bytes: Buffer, change: Edit): Buffer {
  const at = Math.floor(change.at * bytes.length);
  const splice = (until: number, ...middle: Uint8Array[]) =>
    Buffer.concat([bytes.subarray(0, at), ...middle, bytes.subarray(until)]);
  switch (change.kind) {
    case 'set':
      return splice(at + 1, Uint8Array.of(change.byte));
    case 'number': {
      const value = Buffer.alloc(8);
      value.writeBigInt64LE(BigInt(change.value));
      // Where a number is read, it is aligned.
      const start = at - (at % change.bytes);
      const number = value.subarray(0, change.bytes);
      return Buffer.concat([bytes.subarray(0, start), number, bytes.subarray(start + change.bytes)]);
    }
    case 'insert':
      return splice(at, change.bytes);
    case 'delete':
      return splice(at + change.length);
    case 'copy': {
      const from = Math.floor(change.from * bytes.length);
      return splice(at, bytes.subarray(from, from + change.length));
    }
    case 'cut':
      return bytes.subarray(0, at);
  }
}

/** One of these inputs with some changes; sometimes any bytes at all. */
export function mutants(...seeds: readonly (Buffer | string)[]): fc.Arbitrary<Buffer> {
  const bases = seeds.map((seed) => Buffer.from(seed));
  return fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)) },
    { weight: 1, arbitrary: fc.json({ maxDepth: 4 }).map((text) => Buffer.from(text)) },
    {
      weight: 8,
      arbitrary: fc
        .tuple(fc.constantFrom(...bases), fc.array(edit, { minLength: 1, maxLength: 5 }))
        .map(([base, edits]) => edits.reduce(edited, Buffer.from(base))),
    },
  );
}

/** Whether an error is one that users are to see. */
export function isOwn(error: unknown): boolean {
  return error instanceof OrchestratorError && error.code in ERRORS && error.code !== 'ERR_INTERNAL';
}

function memory(): number {
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  return arrayBuffers + heapUsed;
}

/**
 * Reads inputs until enough were read.
 *
 * @param read Reads an input, and throws what it refuses.
 */
export async function fuzz<T>(
  name: string,
  inputs: fc.Arbitrary<T>,
  read: (input: T) => unknown,
): Promise<void> {
  const counts = { read: 0, refused: 0 };
  const property = fc.asyncProperty(inputs, async (input) => {
    const [started, before] = [performance.now(), memory()];
    try {
      await read(input);
      counts.read++;
    } catch (error) {
      if (!isOwn(error)) throw error;
      counts.refused++;
    }
    expect(performance.now() - started).toBeLessThan(SLOWEST_MS);
    expect(memory() - before).toBeLessThan(MOST_BYTES);
  });
  const long = { numRuns: 2 ** 31 - 1, interruptAfterTimeLimit: SECONDS * 1_000, seed: Date.now() | 0 };
  const short = { numRuns: RUNS, interruptAfterTimeLimit: RUNS_MS, seed: 20_261_126 };
  const { seed, ...limits } = SECONDS > 0 ? long : short;
  if (SECONDS > 0) process.stderr.write(`${name}: seed ${seed}\n`);
  await fc.assert(property, { ...limits, seed, markInterruptAsFailure: false });
  if (SECONDS > 0) process.stderr.write(`${name}: ${counts.read} read, ${counts.refused} refused\n`);
}
