/** What a worker trains with: built once after joining, then given a rank in a generation, and a state. */
import { join } from 'node:path';
import { CHECKPOINTS, checkCompatible, otherArithmetic } from '../checkpoint/resume.js';
import { openCheckpoint } from '../checkpoint/store.js';
import { validationEvery } from '../config/derived.js';
import { parseConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { type OpenDataset, openDataset } from '../data/dataset.js';
import { loadInto } from '../engine/load.js';
import { type TrainingEngine, trainingEngine } from '../engine/spec.js';
import { startFrom } from '../engine/start.js';
import { canonicalHash } from '../files/hash.js';
import { frozenBounds } from '../model/freeze.js';
import type { Dataset, Engine } from '../native/contract.js';
import { findGpu, type Gpu } from '../native/cuda.js';
import { native } from '../native/load.js';
import type { Form, Welcome } from '../rpc/proto.js';
import { type PlanState, SamplePlan } from '../step/plan.js';
import { type ValidationSlot, validationSlots } from '../step/slot.js';
import { version } from '../version.js';
import { calibrationBatch } from './calibration.js';
import type { Collective } from './collective/collective.js';
import { ProcessMetrics } from './process-metrics.js';
import { CheckpointSaver } from './saver.js';
import type { CoordinatorSession } from './session.js';

/** What a worker builds once and keeps across generations: data set, sample plan, engine. */
export interface WorkerSetup {
  config: Config;
  welcome: Welcome;
  dataset: OpenDataset;
  rows: Dataset;
  plan: SamplePlan;
  engine: Engine;
  /** Null on the CPU. */
  gpu: Gpu | null;
  training: TrainingEngine;
  validation: ValidationSlot[];
}

/** The setup of a worker with its rank and slots in a generation. */
export interface Generation extends WorkerSetup {
  session: CoordinatorSession;
  rank: number;
  ranks: number;
  /** Numbers of this worker's slots, ascending. */
  slots: number[];
  totalSlots: number;
  collective: Collective;
  saver: CheckpointSaver;
  processMetrics: ProcessMetrics;
}

/** Opens the data set and builds the engine. The state is loaded later. */
export async function buildSetup(welcome: Welcome): Promise<WorkerSetup> {
  const config = parseConfig(welcome.configJson, "the coordinator's config");
  const dataset = await openDataset(config.data);
  const { validation_rows } = config.data;
  const plan = new SamplePlan(dataset.hash, dataset.rows, validation_rows, config.seed);
  plan.checkBatch(config.batch.global);
  const gpu = config.device === 'cuda' ? await findGpu(native()) : null;
  const training = trainingEngine(config, dataset, native().host(), welcome.workers, gpu?.ordinal ?? null);
  const engine = await native().createEngine(training.spec);
  const rows = await native().mapDataset(dataset.spec);
  await engine.attach(rows, dataset.text);
  if (config.freeze.length > 0) await engine.freeze({ bounds: frozenBounds(engine.layout(), config.freeze) });
  const validation = validationEvery(config) > 0 ? validationSlots(config, plan, dataset.hasSynthetic) : [];
  return { config, welcome, dataset, rows, plan, engine, gpu, training, validation };
}

/** Adds a worker's rank, slots and collective to its setup. */
export function joinGeneration(
  setup: WorkerSetup,
  session: CoordinatorSession,
  form: Form,
  collective: Collective,
): Generation {
  const { config, welcome, engine } = setup;
  const own = form.members[form.rank]!;
  const slots = Array.from({ length: own.endSlot - own.firstSlot }, (_, i) => own.firstSlot + i);
  const saver = new CheckpointSaver({
    engine,
    root: join(welcome.runDir, CHECKPOINTS),
    keep: config.checkpoint.keep,
    copyStalls: setup.gpu !== null,
    metadata: (step) => checkpointMetadata(setup, step),
    onSaved: (saved) => session.send({ saved }),
    onFailed: (error) => session.fail(error),
  });
  return {
    ...setup,
    session,
    rank: form.rank,
    ranks: form.members.length,
    slots,
    totalSlots: form.members.at(-1)!.endSlot,
    collective,
    saver,
    processMetrics: new ProcessMetrics(),
  };
}

/**
 * Loads the engine's state from a checkpoint, from `init`, or from the seed, and returns the number of
 * completed steps.
 *
 * @param role `logs`: print notes. `writesState`: write the state; where workers share it, only rank 0 does.
 */
export async function loadState(
  setup: WorkerSetup,
  checkpoint: string,
  role: { logs: boolean; writesState: boolean },
): Promise<number> {
  const { config, engine, plan, dataset, rows, gpu, training } = setup;
  if (checkpoint !== '') {
    const manifest = await openCheckpoint(checkpoint);
    checkCompatible(
      { path: checkpoint, manifest },
      { modelSpec: training.spec.model, datasetHash: dataset.hash, encoders: dataset.encoders },
    );
    const other = otherArithmetic(manifest, arithmetic(training, gpu));
    if (role.logs && other !== null) process.stderr.write(`warn ${other}\n`);
    plan.check(manifest.planState as unknown as PlanState, manifest.step, config.batch.global);
    if (role.writesState) await loadInto(engine, checkpoint, config.ema !== null);
    return manifest.step;
  }
  if (!role.writesState) return 0;
  await engine.initialize(BigInt(config.seed));
  if (config.init !== null) {
    const notes = await startFrom(engine, training.spec, config.init, () =>
      calibrationBatch(config, plan, dataset, rows),
    );
    for (const note of role.logs ? notes : []) process.stderr.write(`${note}\n`);
    if (config.ema !== null) {
      for (const { name } of engine.layout().tensors) {
        (await engine.state('ema', name)).set(await engine.state('master', name));
      }
      await engine.parametersChanged();
    }
  }
  return 0;
}

/** The Ready message, which the coordinator compares between workers before the first step. */
export async function readiness(setup: WorkerSetup, step: number) {
  const { config, dataset, engine, gpu, training, validation } = setup;
  const layout = engine.layout();
  return {
    step,
    configHash: canonicalHash(config),
    datasetHash: dataset.hash,
    stateHash: await engine.digest(),
    parameters: layout.parameters,
    flopsPerSlot: layout.flopsPerSlot,
    precision: `${training.precision.compute} (${training.precision.reason})`,
    validation: validation.map(({ time }) => `t=${time.toFixed(4)}`),
    device: gpu === null ? '' : `${gpu.name}, GPU ${gpu.ordinal} of ${gpu.count}`,
  };
}

function arithmetic({ precision }: TrainingEngine, gpu: Gpu | null): Record<string, string> {
  const { isa, kernels } = native().host();
  const device =
    gpu === null ? { device: 'cpu', isa, kernels } : { device: gpu.name, libraries: gpu.libraries };
  return { ...device, precision: precision.compute };
}

function checkpointMetadata({ config, dataset, plan, gpu, training }: WorkerSetup, step: number) {
  return {
    step,
    planState: { ...plan.state(step, config.batch.global) },
    datasetHash: dataset.hash,
    config,
    modelSpec: training.spec.model,
    latent: dataset.latent,
    text: dataset.text,
    encoders: dataset.encoders,
    versions: { orchestrator: version(), node: process.version, ...arithmetic(training, gpu) },
  };
}
