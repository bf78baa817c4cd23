/**
 * Formulations: what the network is given at each t, what it learns, and how much that counts. Each is put
 * together from a path, a density of t, a target and a weight, under the name that the SD3 paper gives it
 * (section 3, Table 1).
 *
 * The paper writes each loss as the unified loss on the estimated noise, -1/2 E[w_t lambda'_t |eps_hat -
 * eps|^2] (equation 9). Here the density, the target and the weight are what is computed, and w follows: see
 * `shown.ts`.
 */
import type { Coefficients } from './coefficients.js';
import { cosmap, type Density, lognorm, MODE_LIMIT, mode, uniform } from './density.js';
import { cosine, ddpmTable, inSigma, lawOf, ldmTable, normalLaw, type Path, straight } from './paths.js';

/** What the network is given and what it learns, at a point of a path. */
interface Target {
  /** The factor of z in the network's input. */
  scale(a: number, b: number): number;
  /** The target p x0 + q eps. */
  target(a: number, b: number): { p: number; q: number };
}

const asItIs = () => 1;

const epsilon: Target = { scale: asItIs, target: () => ({ p: 0, q: 1 }) };
/** The velocity dz/dt of the straight path, eps - x0. */
const velocity: Target = { scale: asItIs, target: () => ({ p: -1, q: 1 }) };
/** v = a eps - b x0 (Salimans & Ho, 2022), which is dz/dt of the cosine path up to pi/2. */
const vTarget: Target = { scale: asItIs, target: (a, b) => ({ p: -b, q: a }) };

/** EDM's sigma_data: the deviation of data for which its preconditioning is made. */
export const SIGMA_DATA = 0.5;

const inputScale = (sigma: number) => 1 / Math.sqrt(sigma * sigma + SIGMA_DATA * SIGMA_DATA);
/**
 * EDM's F (Karras et al., 2022, table 1): from z / sqrt(sigma^2 + d^2), the network estimates
 * (sigma / d x0 - d eps) / sqrt(sigma^2 + d^2), d = sigma_data.
 */
const preconditioned: Target = {
  scale: (_, sigma) => inputScale(sigma),
  target: (_, sigma) => ({
    p: (sigma / SIGMA_DATA) * inputScale(sigma),
    q: -SIGMA_DATA * inputScale(sigma),
  }),
};

export interface Formulation {
  /** The name in its shortest spelling. */
  name: string;
  path: Path;
  /** From which t is drawn, before the resolution shift. */
  density: Density;
  target: Target;
  /** Weight of a sample's mean squared error on the target; 1 = plain. */
  weight(sigma: number): number;
  /**
   * The paper's w_t is this times 2 effective / |lambda'|, where `effective` is what multiplies the squared
   * error of the noise at t, density included. A constant factor of a loss changes nothing that AdamW does.
   */
  constant: number;
}

type Parts = Omit<Formulation, 'name' | 'weight' | 'density'> & Partial<Formulation>;

/** A parameter that may not be any number. */
interface Range {
  inWords: string;
  includes(value: number): boolean;
}

interface Family {
  build(...parameters: number[]): Parts;
  ranges?: Readonly<Record<string, Range>>;
}

const POSITIVE: Range = { inWords: 'greater than 0', includes: (value) => value > 0 };

const rf = (density: Density): Parts => ({ path: straight, density, target: velocity, constant: 1 });

/**
 * `edm/rf` and `edm/cos`: EDM's preconditioning "with a schedule such that they match the log-SNR weighting"
 * of `rf` and `v/cos` (paper, section 5.1). Two readings are possible. Read as the schedule alone, sigma is
 * distributed as there, and the loss is the plain error of F; so it is by default. Read as the weighting, F's
 * error is weighted so that w is that of `rf` or `v/cos`, which is e^(-lambda/2) for both: then all four are
 * one loss. The paper ranks them apart, so the second reading (`matched`) is an option.
 *
 * @param squared 1 + what remains of e's weight on the other path: (1 + sigma)^2 for `rf`, 1 + sigma^2 for
 *   `v/cos`.
 */
function edmLike(path: Path, matched: { squared(sigma: number): number; constant: number } | null): Parts {
  const parts = { path: inSigma(lawOf(path)), target: preconditioned };
  if (matched === null) return { ...parts, constant: 1 / 8 };
  return {
    ...parts,
    weight(sigma) {
      const toInput = SIGMA_DATA * inputScale(sigma);
      return matched.squared(sigma) * toInput * toInput;
    },
    constant: matched.constant,
  };
}

/** cos(pi t / 2) from t = 1: its target v needs no division by a = 0. */
const cosineFromOne = cosine(1);

/** One entry for each form of a name; letters in parentheses stand for numbers. */
export const FAMILIES: Readonly<Record<string, Family>> = {
  rf: { build: () => rf(uniform) },
  'rf/lognorm(m,s)': { build: (m, s) => rf(lognorm(m!, s!)), ranges: { s: POSITIVE } },
  'rf/mode(s)': {
    build: (s) => rf(mode(s!)),
    ranges: {
      s: { inWords: `from -1 to ${MODE_LIMIT.toFixed(4)}`, includes: (s) => s >= -1 && s <= MODE_LIMIT },
    },
  },
  'rf/cosmap': { build: () => rf(cosmap) },
  'edm(P_m,P_s)': {
    build: (mean, deviation) => ({
      path: inSigma(normalLaw(mean!, deviation!)),
      target: preconditioned,
      constant: 1 / 8,
    }),
    ranges: { P_s: POSITIVE },
  },
  'edm/rf': { build: () => edmLike(straight, null) },
  'edm/rf(matched)': {
    build: () => edmLike(straight, { squared: (sigma) => (1 + sigma) * (1 + sigma), constant: 1 }),
  },
  'edm/cos': { build: () => edmLike(cosineFromOne, null) },
  'edm/cos(matched)': {
    build: () => edmLike(cosineFromOne, { squared: (sigma) => 1 + sigma * sigma, constant: Math.PI / 2 }),
  },
  // At t = 0.999 sigma is 637; at 1, a = 0, and no x0 follows from an estimate of eps.
  'eps/cos': { build: () => ({ path: cosine(0.999), target: epsilon, constant: Math.PI }) },
  'v/cos': { build: () => ({ path: cosineFromOne, target: vTarget, constant: Math.PI / 2 }) },
  'eps/linear': { build: () => ({ path: ldmTable, target: epsilon, constant: 1 }) },
  'v/linear': { build: () => ({ path: ldmTable, target: vTarget, constant: 1 }) },
  'eps/ddpm': { build: () => ({ path: ddpmTable, target: epsilon, constant: 1 }) },
};

/** The formulation of a family with these parameters. */
export function build(form: string, name: string, parameters: readonly number[]): Formulation {
  return { name, density: uniform, weight: asItIs, ...FAMILIES[form]!.build(...parameters) };
}

/** The coefficients of a formulation at a level of its path. */
export function coefficientsAt({ path, target, weight }: Formulation, level: number): Coefficients {
  const { a, b } = path.at(level);
  const scale = target.scale(a, b);
  return {
    a: a * scale,
    b: b * scale,
    ...target.target(a, b),
    weight: weight(b / a),
    timestep: path.timestep(level),
  };
}
