/** What a worker trains with: built once after joining, then given a rank in a generation, and a state. */
import type { CheckpointManifest } from '../checkpoint/manifest.js';
import { checkEncoders, otherArithmetic } from '../checkpoint/resume.js';
import { openCheckpoint } from '../checkpoint/store.js';
import { validationEvery } from '../config/derived.js';
import { parseConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { openCopy } from '../data/dataset.js';
import { requirePatches } from '../data/fit.js';
import { loadInto } from '../engine/load.js';
import { describePrecision } from '../engine/precision.js';
import { type TrainingEngine, trainingEngine } from '../engine/spec.js';
import { startFrom } from '../engine/start.js';
import { OrchestratorError } from '../errors.js';
import { canonicalHash } from '../files/hash.js';
import { frozenBounds } from '../model/freeze.js';
import { findGpu, type Gpu } from '../native/cuda.js';
import { hostOf } from '../native/host.js';
import { native } from '../native/load.js';
import { objectiveOf } from '../objective/objective.js';
import type { Formation, Welcome } from '../rpc/proto.js';
import { planStateOf, SamplePlan } from '../step/plan.js';
import { type Segment, segmentsSchema } from '../step/segment.js';
import { SlotBatches } from '../step/slot.js';
import { calibrationBatch } from './calibration.js';
import type { Collective } from './collective/collective.js';
import { probeArithmetic } from './probe.js';
import type { CheckpointSaver } from './saver.js';
import type { CoordinatorSession } from './session.js';

const PEAK_SIDE = 1024;
const PEAK_SECONDS = 0.3;

/** The state in this worker's memory, which stays with it from generation to generation. */
export interface Held {
  /** The step after which it is; null: none, or it is being replaced or updated. */
  step: number | null;
  /** Whether the memory is shared with other workers, from the first generation on that has shared it. */
  isShared: boolean;
  /** Whether any state was ever written there. */
  isUsed: boolean;
  /**
   * The last step after which it is known to be the state of the run, its own or shared with others: a generation has
   * started with it. It counts an update that has begun. Null: it is not that of the run.
   */
  ofRun: number | null;
}

/** What stays with a worker: its setup, its session, the state that it holds, and what saves it. */
export interface WorkerRun extends WorkerSetup {
  session: CoordinatorSession;
  held: Held;
  saver: CheckpointSaver;
}

/** A worker's place in a generation, and what sums its gradients with those of its peers. */
export interface Generation extends WorkerRun {
  form: Formation;
  collective: Collective;
}

/**
 * Opens the data set and builds the engine, which stay across generations. The state is loaded later.
 *
 * @param sharing How many workers share the processors of this machine.
 * @param data Where this machine has the data set; null: where the configuration says.
 */
export async function buildSetup(welcome: Welcome, sharing: number, data: string | null = null) {
  const config = parseConfig(welcome.configJson, "the coordinator's config");
  const segments = segmentsSchema.parse(JSON.parse(welcome.planJson));
  const { path } = config.data;
  const dataset = await openRunData({ ...config.data, path: data ?? path }, segments.at(-1)!);
  requirePatches(dataset, config);
  const plan = new SamplePlan(segments);
  plan.checkBatch(config.batch.global);
  /** Null on the CPU. */
  const gpu = config.device === 'cuda' ? await findGpu(native()) : null;
  const ordinal = gpu?.ordinal ?? null;
  const training = trainingEngine(config, dataset, hostOf(native()), welcome.workers, ordinal, sharing);
  const matmulPeak = config.telemetry.metrics_port === null ? 0 : await measureMatmulPeak(training);
  const engine = await native().createEngine(training.spec);
  const rows = await native().mapDataset(dataset.spec);
  await engine.attach(rows, dataset.text);
  if (config.freeze.length > 0) await engine.freeze({ bounds: frozenBounds(engine.layout(), config.freeze) });
  const objective = objectiveOf(config.objective);
  const batches = new SlotBatches(config, objective, plan, dataset.hasSynthetic);
  const validation = validationEvery(config) > 0 ? batches.validation() : [];
  return {
    config,
    welcome,
    dataset,
    rows,
    objective,
    plan,
    batches,
    engine,
    gpu,
    training,
    validation,
    matmulPeak,
  };
}

const DATA_ELSEWHERE = '`worker --data FOLDER`, or data=FOLDER in the hostfile of `launch`';

/** Opens the data set, which must be that of the plan's last segment. */
async function openRunData(data: Config['data'], { version, datasetHash }: Segment) {
  const dataset = await openCopy(data, { planVersion: version }, DATA_ELSEWHERE);
  if (dataset.hash === datasetHash) return dataset;
  throw new OrchestratorError(
    'ERR_PLAN',
    `data.path (${data.path}) leads to another data set than that of the run: its hash is ${dataset.hash}, the run's is ${datasetHash}`,
    'Point data.path at the data set of the run. If it was corrected or extended since the checkpoint, resume with --allow-data-change',
  );
}

/** FLOP/s of large matmuls on this worker's threads or GPU, against which its rate is reported. */
async function measureMatmulPeak({ spec: { device, precision, threads } }: TrainingEngine): Promise<number> {
  if (device !== null) return (await native().deviceCeilings(device, precision)).flops;
  return await native().matmulPeak(precision, PEAK_SIDE, PEAK_SIDE, PEAK_SIDE, threads, PEAK_SECONDS);
}

export type WorkerSetup = Awaited<ReturnType<typeof buildSetup>>;

/**
 * Loads the engine's state from a checkpoint, from `init`, or from the seed, and returns the number of
 * completed steps.
 *
 * @param writesState Whether to write the state: where workers share it, only rank 0 does.
 * @param isUsed Whether another state was in the engine's memory before.
 * @param log Gets notes for the user.
 */
export async function loadState(
  setup: WorkerSetup,
  checkpoint: string,
  writesState: boolean,
  isUsed: boolean,
  log: (note: string) => void,
): Promise<number> {
  const { config, engine, training } = setup;
  if (checkpoint !== '') {
    const manifest = await openCheckpoint(checkpoint);
    checkManifest(setup, checkpoint, manifest, log);
    if (writesState) await loadInto(engine, checkpoint, config.ema !== null);
    return manifest.step;
  }
  if (!writesState) return 0;
  if (isUsed) {
    for (const moment of engine.layout().moments) {
      for (const { name } of engine.layout().tensors) (await engine.state(moment, name)).fill(0);
    }
    await engine.parametersChanged();
  }
  await engine.initialize(BigInt(config.seed));
  if (config.init !== null) {
    const notes = await startFrom(engine, training.spec, config.init, () => calibrationBatch(setup));
    for (const note of notes) log(note);
    if (config.ema !== null) {
      for (const { name } of engine.layout().tensors) {
        (await engine.state('ema', name)).set(await engine.state('master', name));
      }
      await engine.parametersChanged();
    }
  }
  return 0;
}

/** Refuses a checkpoint that does not belong to the run. `path` is for messages. */
export function checkManifest(
  { config, plan, dataset, gpu, training }: WorkerSetup,
  path: string,
  manifest: CheckpointManifest,
  log: (note: string) => void,
): void {
  checkEncoders({ path, manifest }, dataset.encoders);
  const other = otherArithmetic(manifest, arithmetic(training, gpu));
  if (other !== null) log(`warn ${other}`);
  plan.check(planStateOf(path, manifest.planState), manifest.step, config.batch.global);
}

/** The Ready message, which the coordinator compares between workers before the first step. */
export async function readiness(setup: WorkerSetup, step: number) {
  const { config, dataset, engine, gpu, training, validation, matmulPeak } = setup;
  const layout = engine.layout();
  const attention = await engine.attentionBy();
  const precision = describePrecision(training.precision);
  return {
    step,
    configHash: canonicalHash(config),
    datasetHash: dataset.hash,
    stateHash: await engine.digest(),
    parameters: layout.parameters,
    flopsPerSlot: layout.flops * config.batch.accumulate,
    precision: attention === null ? precision : `${precision}, attention by ${attention}`,
    validation: validation.map(({ name }) => name),
    device: gpu === null ? '' : `${gpu.name}, GPU ${gpu.ordinal} of ${gpu.count}`,
    matmulPeak,
  };
}

/** What the bits of a checkpoint depend on besides its contents. */
export function arithmetic({ precision }: TrainingEngine, gpu: Gpu | null): Record<string, string> {
  const { isa, kernels } = native().host();
  const device =
    gpu === null ? { device: 'cpu', isa, kernels } : { device: gpu.name, libraries: gpu.libraries };
  return { ...device, precision: precision.name };
}

/**
 * "device cpu, isa avx512bf16, kernels 3, precision bf16, probe 1f2e3d4c5b6a7988": what must be equal for all workers
 * of a run. GPUs of one kind are equal.
 */
export async function describeArithmetic({ training, gpu }: WorkerSetup): Promise<string> {
  const probed = gpu === null ? { probe: await probeArithmetic(training.spec) } : {};
  const parts = Object.entries({ ...arithmetic(training, gpu), ...probed });
  return parts.map(([name, value]) => `${name} ${value}`).join(', ');
}
