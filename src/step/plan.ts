/**
 * The sample plan: which rows are used when, as a function of the data set's hash, the seed and the step,
 * without state. A run whose data set was corrected or extended goes on with a new segment of the plan
 * (`--allow-data-change`); all others have one segment.
 */
import { z } from 'zod';
import { OrchestratorError } from '../errors.js';
import { checkRows, type Segment, SegmentRows, segmentsSchema } from './segment.js';

/** The version of the plans of new segments. */
export const PLAN_VERSION = 2;

/**
 * Offset between the sample ids of one row in two epochs (or validation bins), so that a row that occurs
 * twice in a step gets different noise. Ids stay below 2^52.
 */
export const SAMPLE_ID_STRIDE = 2 ** 44;

/** The state of the plan in a checkpoint: numbers of its last segment, and all segments if there are several. */
const planStateSchema = z.object({
  version: z.literal([1, 2]),
  datasetHash: z.string(),
  seed: z.number(),
  rows: z.number(),
  validationRows: z.number(),
  /** Samples used since the start of the run. */
  samples: z.number(),
  segments: segmentsSchema.optional(),
});

type PlanState = z.infer<typeof planStateSchema>;

/** The plan's state in the manifest of the checkpoint at `path`. */
export function planStateOf(path: string, stored: Readonly<Record<string, unknown>>): PlanState {
  const parsed = planStateSchema.safeParse(stored);
  if (parsed.success) return parsed.data;
  throw new OrchestratorError(
    'ERR_PLAN',
    `${path} has no sample plan that this program reads: ${z.prettifyError(parsed.error)}`,
  );
}

/** The only segment of a run that keeps its data set. */
export function firstSegment(
  datasetHash: string,
  rows: number,
  validationRows: number,
  seed: number,
  version: Segment['version'] = PLAN_VERSION,
): Segment {
  const own = { datasetHash, seed, rows, validationRows, heldOutHash: datasetHash, heldOutRows: rows };
  return { firstStep: 1, version, ...own };
}

/** The segments of a checkpoint's plan. */
export function segmentsOf(state: PlanState): Segment[] {
  const { version, datasetHash, seed, rows, validationRows, segments } = state;
  return segments ?? [firstSegment(datasetHash, rows, validationRows, seed, version)];
}

/** The first step from which validations have had the same held-out rows as now. */
export function comparableFrom(segments: readonly Segment[]): number {
  const { heldOutHash } = segments.at(-1)!;
  const other = segments.findLastIndex((segment) => segment.heldOutHash !== heldOutHash);
  return segments[other + 1]!.firstStep;
}

/** What must be equal in every segment, in words. */
const SEGMENT_NAMES: Record<keyof Segment, string> = {
  firstStep: 'first step of a segment',
  version: 'plan version',
  datasetHash: 'data set hash',
  seed: 'seed',
  rows: 'number of rows',
  validationRows: 'data.validation_rows',
  heldOutHash: 'origin of the held-out rows',
  heldOutRows: 'number of rows that rows are held out of',
};

/** The sample plan of a run. */
export class SamplePlan {
  /** Held-out rows, ascending, of the last segment. */
  readonly validation: Float64Array;
  readonly #segments: { segment: Segment; rows: SegmentRows }[];

  /** @param segments by their first steps; the first begins at step 1. */
  constructor(segments: readonly Segment[]) {
    this.#segments = segments.map((segment) => ({ segment, rows: new SegmentRows(segment) }));
    this.validation = this.#last.rows.validation;
  }

  get #last() {
    return this.#segments.at(-1)!;
  }

  /** Refuses a data set whose epoch is smaller than one batch. */
  checkBatch(globalBatch: number): void {
    for (const { segment } of this.#segments) checkRows(segment.rows, segment.validationRows, globalBatch);
  }

  /**
   * Samples `first` ... `first + count - 1` of the batch of a step (counted from 1): their rows, and their
   * ids for the counters of random draws, which are the rows, distinguished between neighbouring epochs.
   */
  samples(step: number, globalBatch: number, first: number, count: number) {
    if (!Number.isSafeInteger(step) || step < 1) throw new RangeError(`step ${step}: steps count from 1`);
    this.checkBatch(globalBatch);
    const { segment, rows: order } = this.#segments.findLast(({ segment }) => segment.firstStep <= step)!;
    const rows = new Float64Array(count);
    const sampleIds = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      const { row, epoch } = order.at((step - segment.firstStep) * globalBatch + first + i);
      rows[i] = row;
      sampleIds[i] = row + (epoch % 2) * SAMPLE_ID_STRIDE;
    }
    return { rows, sampleIds };
  }

  /** The plan's state after `step` steps. */
  state(step: number, globalBatch: number): PlanState {
    const { version, datasetHash, seed, rows, validationRows } = this.#last.segment;
    const state = { version, datasetHash, seed, rows, validationRows, samples: step * globalBatch };
    const segments = this.#segments.map(({ segment }) => segment);
    return segments.length === 1 ? state : { ...state, segments };
  }

  /**
   * Checks that `state` is this plan's after `step` steps, so that a resumed run neither repeats nor skips a
   * sample. The plan may have a further segment that begins with the next step.
   */
  check(state: PlanState, step: number, globalBatch: number): void {
    const stored = segmentsOf(state);
    const own = this.#segments.map(({ segment }) => segment).filter(({ firstStep }) => firstStep <= step);
    for (let i = 0; i < Math.max(stored.length, own.length); i++) {
      for (const [key, name] of Object.entries(SEGMENT_NAMES) as [keyof Segment, string][]) {
        const [there, here] = [stored[i]?.[key] ?? 'none', own[i]?.[key] ?? 'none'];
        if (there === here) continue;
        throw new OrchestratorError(
          'ERR_PLAN',
          `The checkpoint's sample plan has ${name} ${there}, this run has ${here}`,
          'Resume with the data set and the configuration of the run that wrote the checkpoint',
        );
      }
    }
    if (state.samples === step * globalBatch) return;
    throw new OrchestratorError(
      'ERR_PLAN',
      `The checkpoint's run has batch.global ${state.samples / step}, this run has ${globalBatch}`,
      'Resume with the same batch.global, or start a new run from these weights (`init`) in another --run-dir',
    );
  }
}
