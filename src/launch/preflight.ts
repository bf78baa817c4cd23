/** The checks before a run starts or writes anything: what it needs, and whether this machine has it. */
import type { LoadedConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { lacksIsa, slowerIsa } from '../coordinator/arithmetic.js';
import { describeData, resolveRun } from '../coordinator/resolve-run.js';
import { checkRunDir } from '../coordinator/run-dir.js';
import type { DescribedDataset, Identification } from '../data/dataset.js';
import { requirePatches, scalingWarning, skippedWarning } from '../data/fit.js';
import { OrchestratorError } from '../errors.js';
import { type Need, type Place, refusal, tightness } from '../memory/fit.js';
import { machineMemory } from '../memory/machine.js';
import { type MemoryPart, totalBytes } from '../memory/parts.js';
import type { HostInfo, NativeAddon } from '../native/contract.js';
import { findGpus, type Gpu } from '../native/cuda.js';
import { hostOf } from '../native/host.js';
import { adoptIsa, possibleIsas } from '../native/isa.js';
import { configuredShapes, type FoundShapes } from '../planning/data-shapes.js';
import { type Estimate, estimateFor, type Spread } from '../planning/estimate.js';
import type { Run } from '../planning/savings.js';
import { averageWarning } from '../step/ema.js';
import { readMetricsToken } from '../telemetry/metrics-access.js';
import { checkMetricsAddress } from '../telemetry/metrics-address.js';
import { counted } from '../text/quantities.js';
import { cannotShare, MAX_MEMBERS } from '../worker/collective/shared.js';
import { cannotConnect, sharedGpu } from '../worker/collective/shared-gpu.js';
import { roomOf } from './room.js';
import { savingsHint } from './savings-hint.js';

export type Preflight = Awaited<ReturnType<typeof preflight>>;

interface PreflightOptions {
  workers: number;
  /** Where they are; by default all are on this machine. */
  spread?: Spread;
  runDir: string;
  /** "auto", "never" or a path. */
  resume: string;
  /** Whether the run may go on with a data set that was corrected or extended. */
  allowDataChange?: boolean;
  /** Bytes that replace this machine's memory in the check; null = this machine's. */
  memory: number | null;
  /** Dry run, which may be for another machine: with `memory`, this machine's free memory does not matter. */
  dry: boolean;
  /** How the identity of the data set is found: from the cache or not, and who hears of progress. */
  identify?: Identification;
}

/**
 * More compute threads of a worker than this for each processor are refused: they gain nothing, and thousands of
 * them starve the machine. A configuration that was written for a larger machine is warned of.
 */
const MOST_THREADS_PER_PROCESSOR = 16;
/** More of the rows should not be held out, by default or by choice: they are not trained on. */
const LARGE_SHARE = 0.2;

/**
 * Checks what a run needs before its first step: configuration, data set, weights, run folder and checkpoint,
 * ports, memory, GPUs. It changes nothing except the instruction set of this process, which becomes that of the run.
 *
 * @returns what the run needs and has, with the errors and warnings of machine, disk and GPUs.
 * @throws OrchestratorError where the run cannot be described at all: a wrong configuration or run folder, or data
 *   whose shapes neither the data set nor the configuration gives.
 */
export async function preflight(
  addon: NativeAddon,
  loaded: LoadedConfig,
  options: PreflightOptions,
  machine = machineMemory(),
) {
  const { workers, runDir, memory, dry } = options;
  const { spread = { together: workers, here: workers } } = options;
  checkRunDir(runDir);
  const { shapes, dataset, noData } = dataOf(loaded);
  // In a run the workers verify it.
  if (dry) await dataset?.verify();
  const resolved = await resolveRun(loaded, shapes, dataset, { ...options, thorough: dry });
  adoptIsa(addon, resolved.isa);
  const { config } = resolved;
  const ofData = dataset === null ? [] : await dataWarnings(dataset, config, dry);
  const figures = estimateFor(addon, config, shapes, workers, null, spread);
  const { gpus, noGpu } = await gpusOf(addon, config, spread.here);
  const given = memory === null ? null : { ...machine, bytes: memory, source: '--memory says' };
  // Without a GPU here, the run is for another machine, whose memory is known only if it was given.
  const place: Place | null = given ?? (noGpu === null ? machine : null);
  const places = place === null ? [] : placesOf(figures, gpus, place);
  const reestimate = (run: Run) => {
    const changed = run.workers === workers ? spread : undefined;
    return estimateFor(addon, run.config, shapes, run.workers, null, changed);
  };
  const shortages = places.flatMap(({ need, place, measure }) => {
    const run = { config, workers };
    const hint = () =>
      savingsHint(run, hostOf(addon), reestimate, measure, place.bytes, resolved.checkpoint !== null);
    return refusal(need, place, hint) ?? [];
  });
  const warned = shortages.length > 0 || (dry && memory !== null) ? [] : places;
  const tight = warned.flatMap(({ need, place }) => {
    const now = place.free === null ? place : { ...place, source: machine.source, bytes: machine.bytes };
    return tightness(need, now) ?? [];
  });
  // A dry run with another machine's memory plans for that machine, which may have what this one lacks.
  const elsewhere = dry && memory !== null;
  const missing = elsewhere ? [] : [noGpu, noData];
  const room = await roomOf(config, figures, runDir);
  // A dry run for another machine is for its disk and its processors.
  const isHere = !elsewhere && !(dry && noGpu !== null);
  const disk = isHere ? room : null;
  const more = [averageWarning(config), disk?.warning ?? null].filter((warning) => warning !== null);
  return {
    ...{ resolved, figures, rows: dataset?.rows ?? null, noData, gpus, noGpu },
    /** The memory that the run is compared with; null if it is for an unknown machine. */
    place,
    /** Errors for memory of the machine or of a GPU that is too small. */
    shortages,
    /** The disk's room for checkpoints. */
    room,
    /** Why the run cannot begin, the shortages too. */
    problems: [
      ...shortages,
      ...[...missing, disk?.refusal ?? null].filter((problem) => problem !== null),
      ...exchangeProblems(config, workers, spread.here, gpus),
      ...(isHere ? threadsProblems(loaded, hostOf(addon)) : []),
      ...(isHere && spread.here === workers ? isaProblems(addon, resolved.isa) : []),
      ...(elsewhere ? [] : await addressProblems(config)),
    ],
    /** What the user should know before the run begins. */
    warnings: [
      // In a run the coordinator says them.
      ...(dry ? resolved.warnings : []),
      ...tight,
      ...more,
      ...ofData,
      ...(isHere && spread.here === workers ? isaWarnings(addon, resolved.isa) : []),
      ...heldOut(loaded, dataset),
      ...crowded(config, hostOf(addon), spread.here),
    ],
  };
}

/**
 * The data set and its shapes; without one, the shapes in the configuration, and `noData` says why there is
 * none.
 */
function dataOf(loaded: LoadedConfig) {
  try {
    const dataset = describeData(loaded);
    const { latent, text } = dataset;
    const shapes: FoundShapes = { latent, text, source: 'data set' };
    return { shapes, dataset, noData: null };
  } catch (error) {
    const shapes = configuredShapes(loaded.config);
    if (!(error instanceof OrchestratorError) || error.code !== 'ERR_FILE_OPEN' || shapes === null) {
      throw error;
    }
    return { shapes, dataset: null, noData: error };
  }
}

/** What seems wrong with the values of the data set. Refuses latents that cannot be cut into patches. */
async function dataWarnings(dataset: DescribedDataset, config: Config, dry: boolean): Promise<string[]> {
  requirePatches(dataset, config);
  const found = [await scalingWarning(dataset), dry ? await skippedWarning(dataset, config) : null];
  return found.filter((warning) => warning !== null);
}

/** An exchange that this machine cannot make; workers on other machines find out by themselves. */
function exchangeProblems(
  config: Config,
  workers: number,
  here: number,
  gpus: readonly Gpu[] | null,
): OrchestratorError[] {
  if (workers === 1) return [];
  if (config.exchange === 'shared' && here < workers) {
    const hint = 'Leave exchange at auto, or choose grpc or nccl';
    const message =
      'exchange: shared, but the workers are on several machines, which have no memory in common';
    return [new OrchestratorError('ERR_CONFIG', message, hint)];
  }
  if (config.exchange === 'shared') return workers > MAX_MEMBERS ? [cannotShare()] : [];
  if (config.exchange !== 'nccl' || gpus === null) return [];
  const shared = sharedGpu(gpus.map(({ ordinal }) => `GPU ${ordinal}`));
  return shared === null ? [] : [cannotConnect(shared)];
}

async function addressProblems({ telemetry }: Config): Promise<OrchestratorError[]> {
  if (telemetry.metrics_port === null) return [];
  try {
    if (telemetry.metrics_token_file !== null) readMetricsToken(telemetry.metrics_token_file);
    await checkMetricsAddress(telemetry.metrics_host, telemetry.metrics_port);
    return [];
  } catch (error) {
    if (error instanceof OrchestratorError) return [error];
    throw error;
  }
}

/** The error where this machine does not have the instruction set of the run. Other hosts tell of theirs. */
function isaProblems(addon: NativeAddon, isa: string | null): OrchestratorError[] {
  const possible = possibleIsas(addon);
  return isa === null || possible.includes(isa) ? [] : [lacksIsa('ERR_ISA', 'this machine', isa, possible)];
}

function isaWarnings(addon: NativeAddon, isa: string | null): string[] {
  const [best, ...others] = possibleIsas(addon);
  return isa !== null && others.includes(isa) ? [slowerIsa(isa, `this machine has ${best}`)] : [];
}

/** A warning where a large part of the data set is held out, from which the model learns nothing. */
function heldOut({ config, sources }: LoadedConfig, dataset: DescribedDataset | null): string[] {
  const { validation_rows: held } = config.data;
  if (dataset === null || held <= LARGE_SHARE * dataset.rows) return [];
  const { source, place } = sources.originOf(['data', 'validation_rows']);
  const by = source === 'default' ? 'its default' : `set at ${place}`;
  const share = heldOutShare(held, dataset.rows);
  return [
    `${share} are held out for validation and are not trained on: data.validation_rows is ${held}, ${by}; lower it if more of them should be`,
  ];
}

/** "256 of 600 rows (43 %)" */
export function heldOutShare(held: number, rows: number): string {
  return `${held} of ${rows} rows (${((100 * held) / rows).toFixed(0)} %)`;
}

function threadsProblems({ config, sources }: LoadedConfig, { processors }: HostInfo): OrchestratorError[] {
  const { threads } = config;
  const most = MOST_THREADS_PER_PROCESSOR * processors;
  if (threads === null || threads <= most) return [];
  const { place } = sources.originOf(['threads']);
  return [
    new OrchestratorError(
      'ERR_CONFIG',
      `threads (${place}): expected at most ${most}, ${MOST_THREADS_PER_PROCESSOR} for each of the ${counted(processors, 'processor')} that this process may use, received ${threads}`,
      'Set threads to null: the workers then share the processors',
    ),
  ];
}

/** A warning where workers have more threads than there are processors, though not so many that they are refused. */
function crowded({ threads }: Config, { processors }: HostInfo, workers: number): string[] {
  const all = (threads ?? 1) * workers;
  if (threads === null || all <= processors || threads > MOST_THREADS_PER_PROCESSOR * processors) return [];
  return [
    `${counted(workers, 'worker')} of ${counted(threads, 'thread')} on ${counted(processors, 'processor')}: the run is slower than with threads: null, which shares them out`,
  ];
}

/** The GPU of each rank, or with `device: cuda` why there is none. */
async function gpusOf(addon: NativeAddon, { device }: Config, workers: number) {
  if (device === 'cpu' || workers === 0) return { gpus: null, noGpu: null };
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
