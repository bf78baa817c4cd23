/** Whether latents are what a model is trained on: scaled to a deviation of about 1. */
import type { DatasetSpec } from '../native/contract.js';
import { native } from '../native/load.js';
import { digestedRows } from './identity.js';

/** Latents as the configuration makes them have a standard deviation in this range, and a mean near 0. */
const EXPECTED = { low: 0.75, high: 1.35, mean: 0.5 };

/** `shift_factor` and `scaling_factor` of released autoencoders, from their config.json. */
const AUTOENCODERS = [
  { name: "SD3's", channels: 16, shift: 0.0609, scale: 1.5305 },
  { name: "FLUX.1's", channels: 16, shift: 0.1159, scale: 0.3611 },
  { name: "SDXL's", channels: 4, shift: 0, scale: 0.13025 },
  { name: "SD 1's and 2's", channels: 4, shift: 0, scale: 0.18215 },
];

/** Rows whose latents are measured at the start of a run. */
const SAMPLED_ROWS = 64;

type Scaling = Pick<DatasetSpec, 'latentShift' | 'latentScale'>;

/** A set that names its encoders has latents as the model sees them, unless the configuration scales them again. */
export function judgesScaling(encoders: unknown, { latentShift, latentScale }: Scaling): boolean {
  return encoders === null || latentShift !== 0 || latentScale !== 1;
}

/** What to set where latents of this mean and deviation, as they are stored, are not scaled; else null. */
export function scalingAdvice(
  { mean, std }: { mean: number; std: number },
  channels: number,
  { latentShift, latentScale }: Scaling,
): string | null {
  const isFit = (shift: number, scale: number) =>
    std * scale >= EXPECTED.low &&
    std * scale <= EXPECTED.high &&
    Math.abs((mean - shift) * scale) <= EXPECTED.mean;
  if (!Number.isFinite(mean) || !Number.isFinite(std) || isFit(latentShift, latentScale)) return null;
  const seen = [(mean - latentShift) * latentScale, std * latentScale].map((x) => x.toPrecision(2));
  const known = AUTOENCODERS.find((one) => one.channels === channels && isFit(one.shift, one.scale));
  const [shift, scale, why] = isFit(0, 1)
    ? [0, 1, 'they are scaled as they are stored']
    : known
      ? [known.shift, known.scale, `${known.name} autoencoder`]
      : [Number(mean.toPrecision(3)), Number((1 / std).toPrecision(3)), 'from their statistics'];
  return (
    `the latents have the mean ${seen[0]} and the standard deviation ${seen[1]}, where about 0 and 1 are expected: ` +
    `set data.latent_shift to ${shift} and data.latent_scale to ${scale} (${why})`
  );
}

/** Mean and standard deviation of the latents of a few rows, as they are stored. */
export async function sampleLatents(spec: DatasetSpec, rows: number): Promise<{ mean: number; std: number }> {
  const columns = spec.columns.filter(({ role }) => role === 'latent');
  const dataset = await native().mapDataset({ ...spec, columns });
  try {
    const candidates = digestedRows(rows);
    const every = Math.max(1, Math.floor(candidates.length / SAMPLED_ROWS));
    let [count, sum, squares] = [0, 0, 0];
    for (let i = 0; i < candidates.length; i += every) {
      for (const x of dataset.row('latent', candidates[i]!)) {
        if (!Number.isFinite(x)) continue;
        count += 1;
        sum += x;
        squares += x * x;
      }
    }
    const mean = sum / count;
    return { mean, std: Math.sqrt(Math.max(0, squares / count - mean * mean)) };
  } finally {
    dataset.close();
  }
}
