/**
 * A segment of the sample plan: the steps in which a run trains on one state of its data set. Every epoch is a
 * permutation of the segment's training rows; an epoch may end inside a batch, and the next one fills the rest
 * of it.
 *
 * Reads stay local: an epoch visits blocks of neighbouring rows in a keyed order, and shuffles rows only
 * within windows of WINDOW positions. So about WINDOW / BLOCK runs of BLOCK rows are being read at any time,
 * however large the data set is, and a data set of up to WINDOW rows is permuted completely.
 */
import { z } from 'zod';
import { OrchestratorError } from '../errors.js';
import { Permutation } from './permutation.js';

const BLOCK = 64;
const WINDOW = 4096;

/** Parts of the plan with separate permutations. */
const PART = { split: 0, blocks: 1, window: 2 };

/** 2^64 divided by the golden ratio: spreads the first step over the bits of a key. */
const SPREAD = 0x9e3779b97f4a7c15n;

const count = (least: number) => z.int().min(least);
const hash = () => z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits');

/** What determines a segment's samples. */
const segmentSchema = z.strictObject({
  /** Its first step. It goes on until the next segment begins. */
  firstStep: count(1),
  /** Plan version; version 1 has another data set hash, of whole files (src/data/first-identity.ts). */
  version: z.literal([1, 2]),
  /** The identity of the data set. */
  datasetHash: hash(),
  seed: count(0),
  rows: count(1),
  validationRows: count(0),
  /** Hash and rows of the data set that the held-out rows were drawn from, which may be an earlier segment's. */
  heldOutHash: hash(),
  heldOutRows: count(1),
});

export type Segment = z.infer<typeof segmentSchema>;

/** The segments of a plan, by their first steps. */
export const segmentsSchema = z
  .array(segmentSchema)
  .min(1)
  .refine(
    (all) => all.every(({ firstStep }, i) => (i === 0 ? firstStep === 1 : firstStep > all[i - 1]!.firstStep)),
    'expected ascending first steps, from 1 on',
  )
  .refine(
    (all) =>
      all.every(
        ({ rows, heldOutRows, validationRows }) => heldOutRows <= rows && validationRows <= heldOutRows,
      ),
    'expected held-out rows among the rows',
  );

/** The rows of a segment, by position. */
export class SegmentRows {
  /** Number of training rows: all except the held-out ones. */
  readonly trainingRows: number;
  /** Held-out rows, ascending. They depend on the data set alone, not on the seed. */
  readonly validation: Float64Array;
  readonly #key: bigint;
  /** Permutations of the last epoch and window. */
  #blocks: { epoch: number; order: Permutation; partialAt: number } | null = null;
  #window: { epoch: number; index: number; order: Permutation } | null = null;

  constructor({ firstStep, datasetHash, seed, rows, validationRows, heldOutHash, heldOutRows }: Segment) {
    checkRows(rows, validationRows, 1);
    this.trainingRows = rows - validationRows;
    const split = new Permutation(heldOutRows, keyOf(heldOutHash), 0, PART.split, 0);
    this.validation = new Float64Array(validationRows);
    for (let i = 0; i < validationRows; i++) {
      this.validation[i] = split.apply(heldOutRows - validationRows + i);
    }
    this.validation.sort();
    // So a run that goes back to former data does not repeat the order of their first epoch.
    this.#key = keyOf(datasetHash) ^ BigInt(seed) ^ BigInt.asUintN(64, BigInt(firstStep - 1) * SPREAD);
  }

  /** The row at a position of the segment's sequence of samples, and the number of its epoch, from 0. */
  at(position: number): { row: number; epoch: number } {
    const epoch = Math.floor(position / this.trainingRows);
    return { row: this.#rowAt(epoch, position % this.trainingRows), epoch };
  }

  #rowAt(epoch: number, position: number): number {
    const index = Math.floor(position / WINDOW);
    if (this.#window?.epoch !== epoch || this.#window.index !== index) {
      const size = Math.min(WINDOW, this.trainingRows - index * WINDOW);
      this.#window = { epoch, index, order: new Permutation(size, this.#key, epoch, PART.window, index) };
    }
    const mixed = index * WINDOW + this.#window.order.apply(position - index * WINDOW);
    return this.#trainingRow(this.#inBlockOrder(epoch, mixed));
  }

  /** Maps a position in the epoch's order of blocks to an index among the training rows. */
  #inBlockOrder(epoch: number, position: number): number {
    const partial = this.trainingRows % BLOCK;
    const count = Math.ceil(this.trainingRows / BLOCK);
    if (this.#blocks?.epoch !== epoch) {
      const order = new Permutation(count, this.#key, epoch, PART.blocks, 0);
      // The last block has fewer rows, so positions after it in the order move up by the difference.
      const partialAt = partial === 0 ? Number.POSITIVE_INFINITY : order.invert(count - 1) * BLOCK;
      this.#blocks = { epoch, order, partialAt };
    }
    const { order, partialAt } = this.#blocks;
    const slot = position < partialAt + partial ? position : position + BLOCK - partial;
    return order.apply(Math.floor(slot / BLOCK)) * BLOCK + (slot % BLOCK);
  }

  /** Maps an index among the training rows to a row, skipping the held-out ones. */
  #trainingRow(index: number): number {
    let low = 0;
    let high = this.validation.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.validation[middle]! - middle <= index) low = middle + 1;
      else high = middle;
    }
    return index + low;
  }
}

const keyOf = (datasetHash: string) => BigInt(`0x${datasetHash.slice(0, 16)}`);

/**
 * Refuses a data set whose epoch is smaller than one batch.
 *
 * @param placeOf where a key of the configuration was set, for the message: " (run.yaml:3:5)", or "".
 */
export function checkRows(
  rows: number,
  validationRows: number,
  globalBatch: number,
  placeOf: (key: string) => string = () => '',
): void {
  const training = rows - validationRows;
  if (training >= globalBatch) return;
  const held = `data.validation_rows${placeOf('data.validation_rows')} holds out ${validationRows} of them`;
  const batch = `batch.global${placeOf('batch.global')} is ${globalBatch}`;
  const left = training < 1 ? 'none' : `${training}, fewer than one batch (${batch})`;
  throw new OrchestratorError(
    'ERR_DATA_EMPTY',
    `The data set has ${rows} rows, and ${held}. Left to train on: ${left}`,
    'Set a smaller batch.global or data.validation_rows, or use more data',
  );
}
