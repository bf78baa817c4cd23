/** Formulations: at each t, the network's input, its target, and the weight of its error. */

/** The network's input is z = a x0 + b eps, its target p x0 + q eps. */
export interface Coefficients {
  a: number;
  b: number;
  p: number;
  q: number;
  /** Weight of the sample's mean squared error. */
  weight: number;
  /** The conditioning timestep, in [0, 1000]; never rounded. */
  timestep: number;
}

/**
 * One line per formulation. t = 0 is data, t = 1 is noise; t is drawn from `objective.density` and shifted.
 */
export const FORMULATIONS = {
  // Straight path, velocity target, plain MSE: only the density weights t (paper, equations 13 and 18).
  rf: (t: number): Coefficients => ({ a: 1 - t, b: t, p: -1, q: 1, weight: 1, timestep: 1000 * t }),
};

export type FormulationName = keyof typeof FORMULATIONS;

/** Number of coefficients per sample in contract.ts. */
export const COEFFICIENTS = 6;

/** Writes sample i's coefficients in the order defined in contract.ts. */
export function writeCoefficients(out: Float32Array, i: number, c: Coefficients): void {
  out.set([c.a, c.b, c.p, c.q, c.weight, c.timestep], i * COEFFICIENTS);
}
