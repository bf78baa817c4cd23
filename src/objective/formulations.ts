/** Formulations: what the network is given at each t, what it learns, and how much that counts. */

/**
 * The numbers of a sample, in the order in which `SlotBatch.coefficients` holds them: the network's input is
 * z = a x0 + b eps, its target p x0 + q eps; then the weight of the sample's mean squared error, and the
 * conditioning timestep, which is never rounded.
 */
export const COEFFICIENTS = ['a', 'b', 'p', 'q', 'weight', 'timestep'] as const;

export type Coefficients = Record<(typeof COEFFICIENTS)[number], number>;

/** The coefficients of a formulation at t in [0, 1]; t = 0 is data, t = 1 is noise. */
export type Formulation = (t: number) => Coefficients;

/** One entry for each formulation. */
export const FORMULATIONS = {
  // Straight path, velocity target, plain MSE: only the density weights t (paper, equations 13 and 18).
  rf: (t) => ({ a: 1 - t, b: t, p: -1, q: 1, weight: 1, timestep: 1000 * t }),
} as const satisfies Record<string, Formulation>;

export type FormulationName = keyof typeof FORMULATIONS;

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
