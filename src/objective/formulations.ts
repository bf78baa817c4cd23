/** Formulations: what the network gets, what it is to predict, and how much its error counts, at each t. */
/** z = a x0 + b eps is the network's input, p x0 + q eps its target. */
export interface Coefficients {
  a: number;
  b: number;
  p: number;
  q: number;
  /** Of the sample's mean squared error. */
  weight: number;
  /** What the model is told, in [0, 1000]; never rounded. */
  timestep: number;
}

/** One line per formulation. t = 0 is data, t = 1 is noise; t is drawn from `objective.density` and shifted. */
export const FORMULATIONS = {
  // Straight path, velocity target, plain MSE: the density alone weights t (paper, equations 13 and 18).
  rf: (t: number): Coefficients => ({ a: 1 - t, b: t, p: -1, q: 1, weight: 1, timestep: 1000 * t }),
};

export type FormulationName = keyof typeof FORMULATIONS;

/** Coefficients per sample in contract.ts. */
export const COEFFICIENTS = 6;

/** Writes sample i's coefficients in the order that contract.ts states. */
export function writeCoefficients(out: Float32Array, i: number, c: Coefficients): void {
  out.set([c.a, c.b, c.p, c.q, c.weight, c.timestep], i * COEFFICIENTS);
}
