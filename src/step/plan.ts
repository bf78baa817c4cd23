/**
 * The sample plan: which rows are used when, as a function of the data set's hash, the seed and the step,
 * without state. Every epoch is a permutation of the training rows; an epoch may end inside a batch, and the
 * next one fills the rest of it.
 *
 * Reads stay local: an epoch visits blocks of neighbouring rows in a keyed order, and shuffles rows only
 * within windows of WINDOW positions. So about WINDOW / BLOCK runs of BLOCK rows are being read at any time,
 * however large the data set is, and a data set of up to WINDOW rows is permuted completely.
 */
import { OrchestratorError } from '../errors.js';
import { Permutation } from './permutation.js';

/**
 * The version of the plans of new runs. Version 1 has another data set hash, of whole files
 * (src/data/first-identity.ts); what follows from the hash is the same. A run keeps its version.
 */
export const PLAN_VERSION = 2;

const BLOCK = 64;
const WINDOW = 4096;

/** Parts of the plan with separate permutations. */
const PART = { split: 0, blocks: 1, window: 2 };

/**
 * Offset between the sample ids of one row in two epochs (or validation bins), so that a row that occurs
 * twice in a step gets different noise. Ids stay below 2^52.
 */
export const SAMPLE_ID_STRIDE = 2 ** 44;

/** The state of the plan in a checkpoint. */
export interface PlanState {
  version: number;
  datasetHash: string;
  seed: number;
  rows: number;
  validationRows: number;
  /** Samples used since the start of the run. */
  samples: number;
}

/** The version of the plan of a run that resumes from this checkpoint, or starts. */
export function planVersionOf(checkpoint: { planState: Record<string, unknown> } | undefined): number {
  return checkpoint?.planState.version === 1 ? 1 : PLAN_VERSION;
}

/** What must be equal besides the number of samples, in words. */
const STATE_NAMES: Record<keyof Omit<PlanState, 'samples'>, string> = {
  version: 'plan version',
  datasetHash: 'data set hash',
  seed: 'seed',
  rows: 'number of rows',
  validationRows: 'data.validation_rows',
};

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

/** The sample plan of a run. */
export class SamplePlan {
  /** Number of training rows: all except the held-out ones. */
  readonly trainingRows: number;
  /** Held-out rows, ascending. They depend on the data set alone, not on the seed. */
  readonly validation: Float64Array;
  readonly #identity: Omit<PlanState, 'samples'>;
  readonly #key: bigint;
  /** Permutations of the last epoch and window. */
  #blocks: { epoch: number; order: Permutation; partialAt: number } | null = null;
  #window: { epoch: number; index: number; order: Permutation } | null = null;

  /** `datasetHash` has 64 hexadecimal digits; `seed` is an integer in [0, 2^53). */
  constructor(
    datasetHash: string,
    rows: number,
    validationRows: number,
    seed: number,
    version = PLAN_VERSION,
  ) {
    this.#identity = { version, datasetHash, seed, rows, validationRows };
    checkRows(rows, validationRows, 1);
    this.trainingRows = rows - validationRows;
    const hashKey = BigInt(`0x${datasetHash.slice(0, 16)}`);
    const split = new Permutation(rows, hashKey, 0, PART.split, 0);
    this.validation = new Float64Array(validationRows);
    for (let i = 0; i < validationRows; i++) this.validation[i] = split.apply(this.trainingRows + i);
    this.validation.sort();
    this.#key = hashKey ^ BigInt(seed);
  }

  /** Refuses a data set whose epoch is smaller than one batch. */
  checkBatch(globalBatch: number): void {
    if (globalBatch <= this.trainingRows) return;
    checkRows(this.#identity.rows, this.#identity.validationRows, globalBatch);
  }

  /**
   * Samples `first` ... `first + count - 1` of the batch of a step (counted from 1): their rows, and their
   * ids for the counters of random draws, which are the rows, distinguished between neighbouring epochs.
   */
  samples(step: number, globalBatch: number, first: number, count: number) {
    if (!Number.isSafeInteger(step) || step < 1) throw new RangeError(`step ${step}: steps count from 1`);
    this.checkBatch(globalBatch);
    const rows = new Float64Array(count);
    const sampleIds = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      const position = (step - 1) * globalBatch + first + i;
      const epoch = Math.floor(position / this.trainingRows);
      const row = this.#rowAt(epoch, position % this.trainingRows);
      rows[i] = row;
      sampleIds[i] = row + (epoch % 2) * SAMPLE_ID_STRIDE;
    }
    return { rows, sampleIds };
  }

  /** The plan's state after `step` steps. */
  state(step: number, globalBatch: number): PlanState {
    return { ...this.#identity, samples: step * globalBatch };
  }

  /**
   * Checks that `state` is this plan's after `step` steps, so that a resumed run neither repeats nor skips a
   * sample.
   */
  check(state: PlanState, step: number, globalBatch: number): void {
    const own = this.state(step, globalBatch);
    for (const [key, name] of Object.entries(STATE_NAMES) as [keyof typeof STATE_NAMES, string][]) {
      if (state[key] === own[key]) continue;
      throw new OrchestratorError(
        'ERR_PLAN',
        `The checkpoint's sample plan has ${name} ${state[key]}, this run has ${own[key]}`,
        'Resume with the data set and the configuration of the run that wrote the checkpoint',
      );
    }
    if (state.samples === own.samples) return;
    throw new OrchestratorError(
      'ERR_PLAN',
      `The checkpoint's run has batch.global ${state.samples / step}, this run has ${globalBatch}`,
      'Resume with the same batch.global, or start a new run from these weights (`init`) in another --run-dir',
    );
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
