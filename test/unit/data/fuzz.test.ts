/**
 * Damaged files: whatever the bytes, an error with a code or a data set that can be read; no crash, no long
 * wait.
 */
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { openDataset } from '../../../src/data/dataset.js';
import { openSource } from '../../../src/data/formats.js';
import { inspectDataset } from '../../../src/data/inspect.js';
import { ERRORS } from '../../../src/errors.js';
import { numericColumn } from '../../../src/formats/arrow/columns.js';
import { readArrow } from '../../../src/formats/arrow/file.js';
import { labelAt } from '../../../src/formats/arrow/labels.js';
import { native } from '../../../src/native/load.js';
import { drawWords, STREAM } from '../../../src/random/philox.js';
import {
  arrowBytes,
  type ColumnOptions,
  columnSpec,
  copyFixture,
  fixtureConfig,
  huggingFaceFolder,
  numericData,
  specOf,
  stringData,
} from '../../support/arrow-files.js';
import { temporaryFolder } from '../../support/folders.js';
import { FULL } from '../../support/full.js';

/** Mutants of each kind. Set the variables for longer runs, or to repeat one. */
const MUTANTS = Number(process.env.ORCHESTRATOR_FUZZ_MUTANTS ?? (FULL ? 600 : 200));
const SEED = BigInt(process.env.ORCHESTRATOR_FUZZ_SEED ?? 1);
const SLOWEST_MS = 10_000;

const INTERESTING = [
  0, 1, 3, 7, 8, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff,
];

/** A sequence of whole numbers below given bounds, from (kind, mutant). */
function dice(kind: number, mutant: number): (bound: number) => number {
  let group = 0;
  let words: number[] = [];
  return (bound) => {
    if (words.length === 0) {
      words = [
        ...drawWords({ seed: SEED, stream: STREAM.dataset, step: 1000 + kind, sampleId: mutant }, group++),
      ];
    }
    return words.pop()! % bound;
  };
}

/**
 * One to four changes: bytes, bits, integers of 2, 4 or 8 bytes, copied stretches, a cut end. Mostly in
 * metadata.
 */
function mutate(bytes: Buffer, metadata: [number, number][], roll: (bound: number) => number): Buffer {
  let copy = Buffer.from(bytes);
  const place = () => {
    const [start, end] = roll(5) === 0 ? [0, bytes.length] : metadata[roll(metadata.length)]!;
    return Math.min(start + roll(Math.max(1, end - start)), copy.length - 1);
  };
  for (let changes = 1 + roll(4); changes > 0 && copy.length > 16; changes--) {
    const at = place();
    const value = INTERESTING[roll(INTERESTING.length)]!;
    switch (roll(8)) {
      case 0:
        copy[at] = roll(256);
        break;
      case 1:
        copy[at]! ^= 1 << roll(8);
        break;
      case 2:
        if (at + 2 <= copy.length) copy.writeUInt16LE(value & 0xffff, at);
        break;
      case 3:
        if (at + 4 <= copy.length) copy.writeUInt32LE(value, at & ~3);
        break;
      case 4:
        if ((at & ~7) + 8 <= copy.length)
          copy.writeBigInt64LE(BigInt.asIntN(64, BigInt(value) << BigInt(8 * roll(5))), at & ~7);
        break;
      case 5: {
        const aligned = at & ~3;
        if (aligned + 4 <= copy.length)
          copy.writeInt32LE((copy.readInt32LE(aligned) + roll(33) - 16) | 0, aligned);
        break;
      }
      case 6:
        copy.copy(copy, at, place(), Math.min(copy.length, place() + 1 + roll(64)));
        break;
      default:
        if (roll(4) === 0) copy = copy.subarray(0, at);
    }
  }
  return copy;
}

/** All that is not bodies of record batches. */
function metadataOf(path: string): [number, number][] {
  const file = readArrow(path);
  const ranges: [number, number][] = [];
  let position = 0;
  for (const { body, bodyBytes } of file.batches) {
    ranges.push([position, body]);
    position = body + bodyBytes;
  }
  ranges.push([position, file.bytes]);
  return ranges;
}

interface Kind {
  make: () => string;
  /** Reads everything there is to read. */
  read: (dir: string) => Promise<unknown>;
}

const inspect = (dir: string) => inspectDataset(openSource(dir), 'latent', null);

async function train(dir: string, flat: boolean): Promise<void> {
  const data = await openDataset(fixtureConfig(dir, flat));
  const dataset = await native().mapDataset(data.spec);
  try {
    for (const { role } of data.spec.columns) {
      for (let row = 0; row < Math.min(data.rows, 100); row++) dataset.row(role, row);
    }
  } finally {
    dataset.close();
  }
  data.ids([0, data.rows - 1]);
}

const nestedLists: ColumnOptions = {
  element: 'float32',
  levels: [
    { kind: 'large', size: 2 },
    { kind: 'fixed', size: 3 },
    { kind: 'list', size: 2 },
  ],
  skipped: 12,
};

/** Small files of every layout, so that most bytes are metadata. */
const smallFolder = (format: 'file' | 'stream') => () => {
  const batch = (rows: number) => ({
    id: stringData(Array.from({ length: rows }, (_, i) => `${i}`)),
    number: numericData({ element: 'int32', levels: [], skipped: 0 }, rows),
    latent: numericData(nestedLists, rows),
    flat: numericData({ element: 'float16', levels: [{ kind: 'fixed', size: 5 }], skipped: 0 }, rows),
  });
  return huggingFaceFolder([arrowBytes([batch(3), batch(2)], { format })], {
    latent: { _type: 'Array3D', shape: [2, 3, 2] },
  });
};

const COLUMNS = fileURLToPath(new URL('../../fixtures/columns/', import.meta.url));

/** Files of pyarrow with the types that apache-arrow does not write. */
function columnsFolder(): string {
  const dir = temporaryFolder();
  for (const name of [
    'captions',
    'dictionary-delta',
    'tensor',
    'large-view',
    'npy-float16',
    'datasets-struct',
  ]) {
    cpSync(join(COLUMNS, `${name}.arrow`), join(dir, `${name}.arrow`));
  }
  return dir;
}

async function readColumns(dir: string): Promise<void> {
  for (const name of readdirSync(dir)) {
    const file = readArrow(join(dir, name));
    if (name.startsWith('dictionary')) {
      for (let row = 0; row < 4; row++) labelAt(file, 'word', row);
      continue;
    }
    const spec = columnSpec('latent', 48, numericColumn(file, 'latent'));
    const dataset = await native().mapDataset(specOf(file.path, file.bytes, file.rows, [spec]));
    dataset.row('latent', file.rows - 1);
    dataset.close();
    if (name.startsWith('captions')) labelAt(file, 'dictionary', 4);
  }
}

const KINDS: Record<string, Kind> = {
  'Hugging Face, fixed-size lists': { make: () => copyFixture('fixed'), read: (dir) => train(dir, true) },
  'Hugging Face, nested lists': { make: () => copyFixture('nested'), read: (dir) => train(dir, false) },
  'small streams of every layout': { make: smallFolder('stream'), read: inspect },
  'small files of every layout': { make: smallFolder('file'), read: inspect },
  "pyarrow's other types": { make: columnsFolder, read: readColumns },
};

describe('damaged data sets', () => {
  test.each(Object.keys(KINDS).map((name, number) => [name, number] as const))(
    '%s: an error with a code, or readable',
    async (name, number) => {
      const { make, read } = KINDS[name]!;
      const dir = make();
      await read(dir);
      const files = readdirSync(dir)
        .sort()
        .map((file) => {
          const path = join(dir, file);
          const bytes = readFileSync(path);
          const metadata: [number, number][] = file.endsWith('.arrow')
            ? metadataOf(path)
            : [[0, bytes.length]];
          return { path, bytes, metadata };
        });
      const arrowFiles = files.filter(({ path }) => path.endsWith('.arrow'));
      const seen = new Set<string>();
      for (let mutant = 0; mutant < MUTANTS; mutant++) {
        const roll = dice(number, mutant);
        const pool = roll(10) === 0 ? files : arrowFiles;
        const { path, bytes, metadata } = pool[roll(pool.length)]!;
        writeFileSync(path, mutate(bytes, metadata, roll));
        const started = performance.now();
        let outcome = 'readable';
        try {
          await read(dir);
        } catch (error) {
          outcome = String((error as { code?: unknown }).code);
          const known = Object.hasOwn(ERRORS, outcome) && outcome !== 'ERR_INTERNAL';
          expect(known, `mutant ${mutant}: ${(error as Error).stack}`).toBe(true);
        }
        expect(performance.now() - started, `mutant ${mutant}`).toBeLessThan(SLOWEST_MS);
        seen.add(outcome);
        writeFileSync(path, bytes);
      }
      // Deep checks are reached, not only the first ones.
      for (const outcome of ['readable', 'ERR_DATA_FORMAT', 'ERR_FILE_TRUNCATED'])
        expect(seen).toContain(outcome);
    },
    120_000,
  );
});
