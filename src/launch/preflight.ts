/** The checks before a run starts or writes anything: what it needs, and whether this machine has it. */
import type { Config } from '../config/schema.js';
import { openDataset } from '../data/dataset.js';
import { OrchestratorError } from '../errors.js';
import { type Need, type Place, refusal, tightness } from '../memory/fit.js';
import { type MachineMemory, machineMemory } from '../memory/machine.js';
import { totalBytes } from '../memory/parts.js';
import type { NativeAddon } from '../native/contract.js';
import { findGpus, type Gpu } from '../native/cuda.js';
import { configuredShapes, type FoundShapes } from '../planning/data-shapes.js';
import { type Estimate, estimateFor } from '../planning/estimate.js';
import type { Run } from '../planning/savings.js';
import { SamplePlan } from '../step/plan.js';
import { savingsHint } from './savings-hint.js';

export interface Preflight {
  figures: Estimate;
  /** Rows of the data set; null if it is not here and the configuration gives the shapes. */
  rows: number | null;
  /** Why there is no data set; null if there is one. */
  noData: OrchestratorError | null;
  /** The GPU of each rank; null on the CPU. */
  gpus: Gpu[] | null;
  /** Why there is no GPU; null if there is one, or on the CPU. */
  noGpu: OrchestratorError | null;
  /** Errors for memory of the machine or of a GPU that is too small. */
  shortages: OrchestratorError[];
  /** Warnings for memory that is large enough but not free now. */
  warnings: string[];
}

interface PreflightOptions {
  workers: number;
  /** Bytes that replace this machine's memory in the check; null = this machine's. */
  memory: number | null;
  /** Dry run, which may be for another machine: with `memory`, this machine's free memory does not matter. */
  dry: boolean;
}

/**
 * Collects what a run needs and what this machine has.
 *
 * @throws OrchestratorError ERR_FILE_OPEN: when neither the data set nor the configuration gives the shapes
 *   of the data.
 */
export async function preflight(
  addon: NativeAddon,
  config: Config,
  options: PreflightOptions,
  machine = machineMemory(),
): Promise<Preflight> {
  const { workers, memory, dry } = options;
  const { shapes, rows, noData } = await dataOf(config);
  const figures = estimateFor(addon, config, shapes, workers, null);
  const { gpus, noGpu } = config.device === 'cuda' ? await gpusOf(addon, workers) : NO_GPUS;
  const found = { figures, rows, noData, gpus, noGpu, shortages: [], warnings: [] };
  // Without a GPU here, the run is for another machine, whose memory is known only if it was given.
  if (noGpu !== null && memory === null) return found;
  const reestimate = (run: Run) => estimateFor(addon, run.config, shapes, run.workers, null);
  const places = placesOf(figures, gpus, limitOf(machine, memory));
  const shortages = places.flatMap(({ need, place, measure }) => {
    const hint = () => savingsHint({ config, workers }, addon.host(), reestimate, measure, place.bytes);
    return refusal(need, place, hint) ?? [];
  });
  const warnings = places.flatMap(({ need, place }) => {
    const now = place.free === null ? place : { ...place, source: machine.source, bytes: machine.bytes };
    return (dry && memory !== null ? null : tightness(need, now)) ?? [];
  });
  return { ...found, shortages, warnings: shortages.length > 0 ? [] : warnings };
}

interface Data {
  shapes: FoundShapes;
  rows: number | null;
  noData: OrchestratorError | null;
}

async function dataOf(config: Config): Promise<Data> {
  try {
    const { latent, text, rows, hash } = await openDataset(config.data, { verify: false }); // the workers verify it
    new SamplePlan(hash, rows, config.data.validation_rows, config.seed).checkBatch(config.batch.global);
    return { shapes: { latent, text, source: 'data set' }, rows, noData: null };
  } catch (error) {
    const configured = configuredShapes(config);
    if (!(error instanceof OrchestratorError) || error.code !== 'ERR_FILE_OPEN' || configured === null) {
      throw error;
    }
    return { shapes: { ...configured, source: 'configuration' }, rows: null, noData: error };
  }
}

const NO_GPUS = { gpus: null, noGpu: null };

async function gpusOf(
  addon: Pick<NativeAddon, 'cudaDevices'>,
  workers: number,
): Promise<Pick<Preflight, 'gpus' | 'noGpu'>> {
  try {
    return { gpus: await findGpus(addon, workers), noGpu: null };
  } catch (error) {
    if (error instanceof OrchestratorError) return { gpus: null, noGpu: error };
    throw error;
  }
}

function limitOf(machine: MachineMemory, memory: number | null): Place {
  return memory === null ? machine : { ...machine, bytes: memory, source: '--memory says' };
}

interface Comparison {
  need: Need;
  place: Place;
  measure: (figures: Estimate) => number;
}

/** The machine, and the GPU that lacks the most memory for its workers; the others add nothing. */
function placesOf(figures: Estimate, gpus: readonly Gpu[] | null, machine: Place): Comparison[] {
  const host: Comparison = {
    need: { who: 'The run needs', parts: figures.machine },
    place: machine,
    measure: (other) => totalBytes(other.machine),
  };
  if (gpus === null) return [host];
  const ordinals = [...new Set(gpus.map(({ ordinal }) => ordinal))];
  const missing = ({ need, place }: Comparison) => totalBytes(need.parts) - place.bytes;
  const byLack = ordinals
    .map((ordinal) => onGpu(figures, gpus, ordinal))
    .sort((a, b) => missing(b) - missing(a));
  return [host, ...byLack.slice(0, 1)];
}

function onGpu(figures: Estimate, gpus: readonly Gpu[], ordinal: number): Comparison {
  const ranks = [...gpus.keys()].filter((rank) => gpus[rank]?.ordinal === ordinal);
  const { name, memoryBytes } = gpus[ranks[0]!]!;
  const workers = ranks.length === 1 ? '1 worker needs' : `${ranks.length} workers need`;
  const partsOf = ({ rankGpu }: Estimate) => ranks.flatMap((rank) => rankGpu?.[rank] ?? []);
  return {
    need: { who: `On GPU ${ordinal} ${workers}`, parts: partsOf(figures) },
    place: { source: `${name} has`, bytes: memoryBytes, free: null },
    measure: (other) => totalBytes(partsOf(other)),
  };
}
