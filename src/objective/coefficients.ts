/** What a formulation comes to for one sample: the six numbers that the engine and the sampler take. */

/**
 * The numbers of a sample, in the order in which `SlotBatch.coefficients` holds them: the network's input is
 * z = a x0 + b eps, its target p x0 + q eps; then the weight of the sample's mean squared error, and the
 * conditioning timestep, which is never rounded.
 */
export const COEFFICIENTS = ['a', 'b', 'p', 'q', 'weight', 'timestep'] as const;

export type Coefficients = Record<(typeof COEFFICIENTS)[number], number>;

/** Writes sample i's coefficients. */
export function writeCoefficients(out: Float32Array, i: number, coefficients: Coefficients): void {
  COEFFICIENTS.forEach((name, k) => {
    out[i * COEFFICIENTS.length + k] = coefficients[name];
  });
}

/** Reads one coefficient of sample i. */
export function readCoefficient(from: Float32Array, i: number, name: keyof Coefficients): number {
  return from[i * COEFFICIENTS.length + COEFFICIENTS.indexOf(name)]!;
}

/** Writes one coefficient of sample i. */
export function writeCoefficient(to: Float32Array, i: number, name: keyof Coefficients, value: number): void {
  to[i * COEFFICIENTS.length + COEFFICIENTS.indexOf(name)] = value;
}

/** Estimates of data and noise. */
export interface Denoised {
  x0: Float64Array;
  eps: Float64Array;
}

/** The data and noise that the network's output at z means: a x0 + b eps = z and p x0 + q eps = output. */
export function denoise({ a, b, p, q }: Coefficients, z: Float32Array, output: Float32Array): Denoised {
  const determinant = a * q - b * p;
  const x0 = new Float64Array(z.length);
  const eps = new Float64Array(z.length);
  for (let i = 0; i < z.length; i++) {
    x0[i] = (q * z[i]! - b * output[i]!) / determinant;
    eps[i] = (a * output[i]! - p * z[i]!) / determinant;
  }
  return { x0, eps };
}

/**
 * The squared error of the noise estimate that an output's squared error of 1 means, ((a q - b p) / a)^-2: at
 * a given z, x0 and eps are wrong together, a dx0 = -b deps.
 */
export function epsilonErrorPerError({ a, b, p, q }: Coefficients): number {
  const factor = a / (a * q - b * p);
  return factor * factor;
}
