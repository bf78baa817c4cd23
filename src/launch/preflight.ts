/** The checks before a run starts or writes anything: what it needs, and whether this machine has it. */
import type { Config } from '../config/schema.js';
import { openDataset } from '../data/dataset.js';
import { requirePatches, scalingWarning, skippedWarning } from '../data/fit.js';
import { OrchestratorError } from '../errors.js';
import { type Need, type Place, refusal, tightness } from '../memory/fit.js';
import { machineMemory } from '../memory/machine.js';
import { type MemoryPart, totalBytes } from '../memory/parts.js';
import type { NativeAddon } from '../native/contract.js';
import { findGpus, type Gpu } from '../native/cuda.js';
import { configuredShapes, type FoundShapes } from '../planning/data-shapes.js';
import { type Estimate, estimateFor } from '../planning/estimate.js';
import type { Run } from '../planning/savings.js';
import { SamplePlan } from '../step/plan.js';
import { counted } from '../text/quantities.js';
import { savingsHint } from './savings-hint.js';

export type Preflight = Awaited<ReturnType<typeof preflight>>;

interface PreflightOptions {
  workers: number;
  /** Bytes that replace this machine's memory in the check; null = this machine's. */
  memory: number | null;
  /** Dry run, which may be for another machine: with `memory`, this machine's free memory does not matter. */
  dry: boolean;
  data?: DataOpening;
}

/** How the data set is opened: whether its identity may come from the cache, and who is told of progress. */
type DataOpening = Pick<NonNullable<Parameters<typeof openDataset>[1]>, 'cache' | 'progress'>;

/** Collects what a run needs and what this machine has; throws where nobody gives the shapes of the data. */
export async function preflight(
  addon: NativeAddon,
  config: Config,
  { workers, memory, dry, data = {} }: PreflightOptions,
  machine = machineMemory(),
) {
  const { shapes, rows, noData, dataWarnings } = await dataOf(config, data, dry);
  const figures = estimateFor(addon, config, shapes, workers, null);
  const { gpus, noGpu } = await gpusOf(addon, config, workers);
  const given = memory === null ? null : { ...machine, bytes: memory, source: '--memory says' };
  // Without a GPU here, the run is for another machine, whose memory is known only if it was given.
  const place: Place | null = given ?? (noGpu === null ? machine : null);
  const places = place === null ? [] : placesOf(figures, gpus, place);
  const reestimate = (run: Run) => estimateFor(addon, run.config, shapes, run.workers, null);
  const shortages = places.flatMap(({ need, place, measure }) => {
    const hint = () => savingsHint({ config, workers }, addon.host(), reestimate, measure, place.bytes);
    return refusal(need, place, hint) ?? [];
  });
  const warned = shortages.length > 0 || (dry && memory !== null) ? [] : places;
  const warnings = warned.flatMap(({ need, place }) => {
    const now = place.free === null ? place : { ...place, source: machine.source, bytes: machine.bytes };
    return tightness(need, now) ?? [];
  });
  warnings.push(...dataWarnings);
  return {
    ...{ figures, rows, noData, gpus, noGpu },
    /** The memory that the run is compared with; null if it is for an unknown machine. */
    place,
    /** Errors for memory of the machine or of a GPU that is too small. */
    shortages,
    /** Warnings for memory that is large enough but not free now, and for values that seem wrong. */
    warnings,
  };
}

/**
 * The shapes and rows of the data set; without one, the shapes in the configuration, and `noData` says why
 * there is none.
 */
async function dataOf(config: Config, opening: DataOpening, dry: boolean) {
  try {
    // The workers verify it.
    const dataset = await openDataset(config.data, { ...opening, verify: false });
    const { latent, text, rows, hash } = dataset;
    requirePatches(dataset, config);
    new SamplePlan(hash, rows, config.data.validation_rows, config.seed).checkBatch(config.batch.global);
    const shapes: FoundShapes = { latent, text, source: 'data set' };
    const found = [await scalingWarning(dataset), dry ? await skippedWarning(dataset, config) : null];
    return { shapes, rows, noData: null, dataWarnings: found.filter((warning) => warning !== null) };
  } catch (error) {
    const configured = configuredShapes(config);
    if (!(error instanceof OrchestratorError) || error.code !== 'ERR_FILE_OPEN' || configured === null) {
      throw error;
    }
    return { shapes: configured, rows: null, noData: error, dataWarnings: [] };
  }
}

/** The GPU of each rank, or with `device: cuda` why there is none. */
async function gpusOf(addon: NativeAddon, { device }: Config, workers: number) {
  if (device === 'cpu') return { gpus: null, noGpu: null };
  try {
    return { gpus: await findGpus(addon, workers), noGpu: null };
  } catch (error) {
    if (error instanceof OrchestratorError) return { gpus: null, noGpu: error };
    throw error;
  }
}

interface Comparison {
  need: Need;
  place: Place;
  measure: (figures: Estimate) => number;
}

/** The machine, and of the workers' GPUs the one that lacks the most memory; the others add nothing. */
function placesOf(figures: Estimate, gpus: readonly Gpu[] | null, machine: Place): Comparison[] {
  const compare = (who: string, place: Place, partsOf: (of: Estimate) => MemoryPart[]): Comparison => ({
    need: { who, parts: partsOf(figures) },
    place,
    measure: (other) => totalBytes(partsOf(other)),
  });
  const onGpus = (gpus ?? []).map(({ ordinal, name, memoryBytes }) => {
    const ranks = [...gpus!.keys()].filter((rank) => gpus![rank]!.ordinal === ordinal);
    const who = `On GPU ${ordinal} ${counted(ranks.length, 'worker')} ${ranks.length === 1 ? 'needs' : 'need'}`;
    const place = { source: `${name} has`, bytes: memoryBytes, free: null };
    return compare(who, place, ({ rankGpu }) => ranks.flatMap((rank) => rankGpu?.[rank] ?? []));
  });
  const lack = ({ need, place }: Comparison) => totalBytes(need.parts) - place.bytes;
  const worst = onGpus.sort((a, b) => lack(b) - lack(a)).slice(0, 1);
  return [compare('The run needs', machine, ({ machine }) => machine), ...worst];
}
