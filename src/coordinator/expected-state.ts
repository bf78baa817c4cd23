/** The state of a run as the coordinator knows it: what a worker says that offers it is compared with this. */
import type { CheckpointMetadata } from '../checkpoint/manifest.js';
import type { DescribedDataset } from '../data/dataset.js';
import { inferenceSpec } from '../engine/spec.js';
import { canonicalJson } from '../files/json.js';
import { native } from '../native/load.js';
import { contextTokens } from '../native/specs.js';
import type { ResolvedRun } from '../run-folder/resolve-run.js';
import { SamplePlan } from '../step/plan.js';

/** All but with which programs and instructions a worker has computed it. */
type Known = Omit<CheckpointMetadata, 'versions'>;

export interface ExpectedState {
  /** What its checkpoint says after a step. */
  metadata: (step: number) => Known;
  /** The arrays that the optimizer keeps. */
  moments: readonly string[];
  ema: boolean;
}

/** Plans the engine, which takes up to 0.2 s for the largest models. */
export function expectedState(
  { config, model, segments }: Pick<ResolvedRun, 'config' | 'model' | 'segments'>,
  { latent, text, encoders }: Pick<DescribedDataset, 'latent' | 'text' | 'encoders'>,
): ExpectedState {
  const plan = new SamplePlan(segments);
  const { datasetHash } = segments.at(-1)!;
  const optimizer = config.optimizer.name;
  const [, latentHeight, latentWidth] = latent;
  const shape = { model, latentHeight, latentWidth, contextTokens: contextTokens(text), microBatch: 1 };
  const { moments } = native().planFigures(inferenceSpec(shape, { training: true, optimizer }));
  const data = { datasetHash, latent, text, encoders };
  const metadata = (step: number) => {
    const planState = plan.state(step, config.batch.global);
    return { step, planState, ...data, config, modelSpec: model, optimizer };
  };
  return { metadata, moments, ema: config.ema !== null };
}

/**
 * In what a state that is offered differs from that of the run after the step: names of its parts; none if it is
 * that. The names of the encoders belong to a copy of the data set, which may lack them.
 */
export function otherParts(
  expected: ExpectedState,
  step: number,
  offered: { metadata: CheckpointMetadata; moments: readonly string[]; ema: boolean },
): string[] {
  const known: Known = expected.metadata(step);
  const { versions: _, ...told } = offered.metadata;
  const encoders = known.encoders ?? told.encoders;
  const ours = { ...known, encoders, moments: expected.moments, ema: expected.ema };
  const theirs: typeof ours = {
    ...told,
    encoders: told.encoders ?? encoders,
    moments: offered.moments,
    ema: offered.ema,
  };
  const names = Object.keys(ours) as (keyof typeof ours)[];
  return names.filter((name) => canonicalJson(ours[name]) !== canonicalJson(theirs[name]));
}
