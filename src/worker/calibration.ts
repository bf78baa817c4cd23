/** The batch with which initial weights are calibrated before training. */
import type { RawBatch } from '../native/contract.js';
import { assemble } from '../sampling/conditioning.js';
import { initialNoise } from '../sampling/noise.js';
import type { WorkerSetup } from './setup.js';

const SAMPLES = 32;

type CalibrationSetup = Pick<WorkerSetup, 'config' | 'objective' | 'plan' | 'dataset' | 'rows'>;

/**
 * The first rows of the sample plan with their original captions and without dropout, at times spread evenly
 * over the path; of a latent that is drawn, its mean. Every worker makes the same batch.
 */
export async function calibrationBatch(setup: CalibrationSetup): Promise<RawBatch> {
  const { config, objective, plan, dataset, rows } = setup;
  const wanted = plan.samples(1, config.batch.global, 0, Math.min(SAMPLES, config.batch.global)).rows;
  const finite = config.data.on_non_finite === 'skip' ? await rows.finite(wanted) : null;
  const chosen = wanted.filter((_, i) => finite?.[i] !== 0);
  const count = chosen.length;
  const [channels, height, width] = dataset.latent;
  const size = channels * height * width;
  const { latentShift, latentScale } = dataset.spec;
  const z = new Float32Array(count * size);
  const timestep = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const {
      a,
      b,
      timestep: conditioning,
    } = objective.at(objective.shift(objective.level((i + 0.5) / count)));
    const x0 = rows.row('latent', chosen[i]!);
    const eps = initialNoise(BigInt(config.seed), i, size);
    for (let j = 0; j < size; j++)
      z[i * size + j] = a * Math.fround((x0[j]! - latentShift) * latentScale) + b * eps[j]!;
    timestep[i] = conditioning;
  }
  return { z, timestep, ...textOf(setup, chosen) };
}

/** The original captions of some rows. */
function textOf({ dataset, rows }: CalibrationSetup, chosen: Float64Array) {
  const column = (feature: string, row: number) => rows.row(`original.${feature}`, row);
  if (dataset.spec.columns.some(({ role }) => role === 'original.context')) {
    const joined = (feature: string) =>
      Float32Array.from([...chosen].flatMap((row) => [...column(feature, row)]));
    return { context: joined('context'), pooled: joined('pooled') };
  }
  const features = Array.from(chosen, (row) => ({
    clipL: column('clip_l', row),
    clipLPooled: column('clip_l_pooled', row),
    clipG: column('clip_g', row),
    clipGPooled: column('clip_g_pooled', row),
    t5: column('t5', row),
  }));
  const { context, pooled } = assemble(features, dataset.text, dataset.text.t5Dim);
  return { context, pooled };
}
