/** The batch with which initial weights are calibrated before training. */
import type { RawBatch } from '../native/contract.js';
import { assemble } from '../sampling/conditioning.js';
import { initialNoise } from '../sampling/noise.js';
import type { WorkerSetup } from './setup.js';

const SAMPLES = 32;

type CalibrationSetup = Pick<WorkerSetup, 'config' | 'objective' | 'plan' | 'dataset' | 'rows'>;

/**
 * The first rows of the sample plan with their original captions and without dropout, at times spread evenly
 * over the path. Every worker makes the same batch.
 */
export function calibrationBatch({ config, objective, plan, dataset, rows }: CalibrationSetup): RawBatch {
  const count = Math.min(SAMPLES, config.batch.global);
  const chosen = plan.samples(1, config.batch.global, 0, count).rows;
  const [channels, height, width] = dataset.latent;
  const size = channels * height * width;
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
    for (let j = 0; j < size; j++) z[i * size + j] = a * x0[j]! + b * eps[j]!;
    timestep[i] = conditioning;
  }
  const features = Array.from(chosen, (row) => ({
    clipL: rows.row('original.clip_l', row),
    clipLPooled: rows.row('original.clip_l_pooled', row),
    clipG: rows.row('original.clip_g', row),
    clipGPooled: rows.row('original.clip_g_pooled', row),
    t5: rows.row('original.t5', row),
  }));
  const { context, pooled } = assemble(features, dataset.text, dataset.text.t5Dim);
  return { z, timestep, context, pooled };
}
