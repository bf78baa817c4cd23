/**
 * The segments of the sample plan with which a run goes on: those of its checkpoint, and where the user allows
 * that the data set has changed since (`--allow-data-change`), a new one.
 */
import { checkEncoders, type FoundCheckpoint } from '../checkpoint/resume.js';
import { changedKeys, describeChange } from '../config/resume.js';
import type { Config } from '../config/schema.js';
import type { DescribedDataset, Identification } from '../data/dataset.js';
import { OrchestratorError } from '../errors.js';
import type { TextSpec } from '../native/contract.js';
import { PLAN_VERSION, planStateOf, segmentsOf } from '../step/plan.js';
import type { Segment } from '../step/segment.js';

interface DataOptions {
  allowDataChange?: boolean;
  identify?: Identification;
}

interface PlanOfRun {
  segments: Segment[];
  notes: string[];
  warnings: string[];
}

/** The identity of plan version 1 reads much of a data set; up to this size it takes about two seconds. */
const QUICK_BYTES = 2 * 2 ** 30;

/** How the rows of a data set differ from those that a segment had, as far as identities tell. */
type Kind =
  /** There are more rows, and the first ones are the same. */
  | 'extended'
  /** There are as many rows or more, with other values or columns. */
  | 'other'
  /** There are fewer rows. */
  | 'fewer'
  /** The run had them before. */
  | 'former';

/**
 * @param then the configuration of the checkpoint; `now` the run's.
 * @param dataset null where it is not on this machine.
 */
export async function planOnResume(
  found: FoundCheckpoint,
  then: Config,
  now: Config,
  dataset: DescribedDataset | null,
  { allowDataChange = false, identify }: DataOptions,
): Promise<PlanOfRun> {
  const { path, manifest } = found;
  const segments = segmentsOf(planStateOf(path, manifest.planState));
  const same: PlanOfRun = { segments, notes: [], warnings: [] };
  const last = segments.at(-1)!;
  if (dataset === null) return same;
  checkEncoders(found, dataset.encoders);
  // With plan version 1 the workers compare a large data set, before anything is changed.
  if (last.version === 1 && dataset.bytes > QUICK_BYTES && !allowDataChange) return same;
  if ((await dataset.identify({ ...identify, planVersion: last.version })) === last.datasetHash) {
    const unused = `--allow-data-change: the data set is that of step ${manifest.step}; the plan goes on`;
    return allowDataChange ? { ...same, notes: [unused] } : same;
  }
  checkShapes(found, dataset);
  const datasetHash = await dataset.identify(identify);
  const former = await formerSegment(segments, dataset, datasetHash);
  const kind = former === undefined ? await kindOf(last, dataset, identify) : 'former';
  const differences = [
    describeRows(last, dataset, kind, former),
    ...changedColumns(then, now, manifest.step),
  ];
  const what = differences.join('; ');
  if (!allowDataChange) throw refusal(found, what, last, datasetHash);
  const { seed, data } = now;
  const firstStep = manifest.step + 1;
  const drawn = { heldOutHash: datasetHash, heldOutRows: dataset.rows };
  // Row numbers mean the same rows only where none has gone.
  const { heldOutHash, heldOutRows } = former ?? (kind === 'fewer' ? drawn : last);
  const segment: Segment = {
    ...{ firstStep, version: PLAN_VERSION, datasetHash, seed, rows: dataset.rows },
    ...{ validationRows: data.validation_rows, heldOutHash, heldOutRows },
  };
  const isKept = heldOutHash === last.heldOutHash;
  const isSure = data.validation_rows === 0 || (isKept && kind !== 'other');
  return {
    segments: [...segments, segment],
    notes: [
      `the data set has changed: ${what}. A new segment of the sample plan begins at step ${firstStep}, and with it an epoch; rows that the former epoch had not reached are not made up for`,
      ...(kind === 'extended' && data.validation_rows > 0
        ? [`the rows held out for validation stay the same, all among the first ${heldOutRows}`]
        : []),
    ],
    warnings: isSure ? [] : [heldOutWarning(isKept, data, firstStep)],
  };
}

/** The last segment that had this data set. */
async function formerSegment(segments: readonly Segment[], dataset: DescribedDataset, datasetHash: string) {
  const mayBeFirst = segments.some(({ version, rows }) => version === 1 && rows === dataset.rows);
  // A selection of rows has no identity of version 1.
  const first = mayBeFirst ? await dataset.identify({ planVersion: 1 }).catch(() => null) : null;
  return segments.findLast(
    (segment) => segment.datasetHash === (segment.version === 1 ? first : datasetHash),
  );
}

async function kindOf(last: Segment, dataset: DescribedDataset, identify?: Identification): Promise<Kind> {
  if (dataset.rows < last.rows) return 'fewer';
  if (dataset.rows === last.rows || last.version === 1) return 'other';
  return (await dataset.identify({ ...identify, rows: last.rows })) === last.datasetHash
    ? 'extended'
    : 'other';
}

function describeRows(
  { rows, version }: Segment,
  dataset: DescribedDataset,
  kind: Kind,
  former: Segment | undefined,
): string {
  if (former !== undefined) return `it is that of step ${former.firstStep} again, with ${dataset.rows} rows`;
  if (kind === 'extended')
    return `it was extended from ${rows} to ${dataset.rows} rows, and the first ${rows} are the same`;
  if (dataset.rows === rows) return `it has ${rows} rows as before, with other values or element types`;
  const first = kind === 'other' && version > 1 ? `, and the first ${rows} are not the same` : '';
  return `it had ${rows} rows and has ${dataset.rows}${first}`;
}

/** The keys of `data` that say how columns are read, where they have changed. */
function changedColumns(then: Config, now: Config, step: number): string[] {
  return changedKeys(then, { ...then, data: { ...now.data, path: then.data.path } })
    .filter(({ key, rule }) => rule.change === 'same data' && key !== 'data.columns.id')
    .map((change) => describeChange(change, step));
}

function heldOutWarning(
  isKept: boolean,
  { validation_rows: held }: Config['data'],
  firstStep: number,
): string {
  return isKept
    ? `the ${held} rows held out for validation keep their numbers: if rows have changed places in the data set, some were trained on before step ${firstStep}, and losses on them are too good`
    : `the ${held} rows held out for validation are drawn again, because rows have gone: some were trained on before step ${firstStep}, so losses on them are too good, and do not compare with those before`;
}

/** What a model is made for, in words. */
const SHAPE_NAMES: Record<keyof TextSpec, string> = {
  clipTokens: 'tokens of CLIP',
  t5Tokens: 'tokens of T5',
  clipLDim: 'width of CLIP-L',
  clipGDim: 'width of CLIP-G',
  t5Dim: 'width of T5',
  clipLPooledDim: "width of CLIP-L's pooled vector",
  clipGPooledDim: "width of CLIP-G's pooled vector",
};

/** Refuses latents and features of other shapes, which cannot change within a run. */
function checkShapes({ path, manifest }: FoundCheckpoint, { latent, text }: DescribedDataset): void {
  const keys = Object.keys(SHAPE_NAMES) as (keyof TextSpec)[];
  const shapes: [string, string | number, string | number][] = [
    ['shape of the latents', manifest.latent.join(' x '), latent.join(' x ')],
    ...keys.map((key): [string, number, number] => [SHAPE_NAMES[key], manifest.text[key], text[key]]),
  ];
  const differing = shapes.filter(([, before, now]) => before !== now);
  if (differing.length === 0) return;
  const what = differing.map(([name, before, now]) => `${name} ${before}, now ${now}`).join('; ');
  throw new OrchestratorError(
    'ERR_CHECKPOINT_MISMATCH',
    `${path} belongs to another data set, of other shapes: ${what}`,
    'Shapes cannot change within a run. Point data.path at the data set of the run, or start a new run from these weights (init) in another --run-dir',
  );
}

function refusal({ path, manifest }: FoundCheckpoint, what: string, last: Segment, hash: string) {
  return new OrchestratorError(
    'ERR_CHECKPOINT_MISMATCH',
    `${path} belongs to another data set than that of data.path: ${what} (hash ${last.datasetHash.slice(0, 12)}, now ${hash.slice(0, 12)})`,
    `Point data.path at the data set of the run. If its values were corrected, or rows were added, go on with --allow-data-change: a new segment of the sample plan then begins at step ${manifest.step + 1}. Or start a new run from these weights (init) in another --run-dir`,
  );
}
