/**
 * Paths from data to noise, z = a x0 + b eps, each with what it says on its own: its log-SNR, what the network
 * is told of it, its resolution shift, and the grid along which it is sampled.
 *
 * A point of a path is named by its level, in the variable that the path is written in: t itself, the index of
 * a table, or sigma. sigma = b / a, and the log-SNR is -2 log sigma.
 */
import { OrchestratorError } from '../errors.js';
import { elementary } from '../native/elementary.js';
import { normalPdf, normalQuantile } from './normal.js';

export interface Path {
  /** The level at t in [0, 1]; t = 0 is data, t = 1 is noise. */
  level(t: number): number;
  /** The t of the level that is nearest to t: t itself, except in a table. */
  nearest(t: number): number;
  at(level: number): { a: number; b: number };
  /** The level with sigma = b / a, or the nearest that there is. */
  ofSigma(sigma: number): number;
  /** The derivative of the log-SNR by t; null where it has none. */
  logSnrDerivative(t: number): number | null;
  /** The conditioning timestep. */
  timestep(level: number): number;
  /**
   * The level at which a resolution with alpha times the noise looks the same: sigma' = alpha sigma, which is
   * lambda' = lambda - 2 log alpha (SD3 paper, section 5.3.2, equation 23).
   */
  shift(level: number, alpha: number): number;
  /** The levels of a sampling run of `steps` >= 1 steps before the shift: `steps` + 1, from noise to data. */
  grid(steps: number, kind: GridKind, alpha: number): number[];
}

/**
 * uniform: equal steps from the path's start to data, of t, of the index, or of sigma^(1/7). reference: as the
 * released inference code takes them, down to the smallest level that is trained, and then to data. karras: of
 * sigma^(1/7) between 80 and 0.002, whatever was trained (paths in sigma alone).
 */
export const GRID_KINDS = ['uniform', 'reference', 'karras'] as const;

export type GridKind = (typeof GRID_KINDS)[number];

function equalSteps(steps: number, intervals: number, first: number, last: number): number[] {
  return Array.from({ length: steps }, (_, i) => first - (i / intervals) * (first - last));
}

function refuseKarras(kind: GridKind): void {
  if (kind !== 'karras') return;
  throw new OrchestratorError(
    'ERR_USAGE',
    '--schedule karras: this formulation has no path in sigma; expected uniform or reference',
    'Only the formulations edm(P_m,P_s), edm/rf and edm/cos do',
  );
}

/**
 * Levels of a path that is written in t. The released inference code steps from 1 down to the smallest time of
 * its table of 1,000, the already shifted 1/1000. So the smallest time is shifted twice, and the last step is
 * much shorter: for `rf` at alpha = 3 and 10 steps it begins at 0.0089 instead of 0.25.
 */
function gridOfTimes(path: Pick<Path, 'shift'>, start: number): Path['grid'] {
  return (steps, kind, alpha) => {
    refuseKarras(kind);
    const last = kind === 'reference' ? path.shift(1 / 1000, alpha) : 0;
    const intervals = kind === 'reference' ? Math.max(steps - 1, 1) : steps;
    return [...equalSteps(steps, intervals, start, last), 0];
  };
}

/** The straight path of rectified flow, (1 - t) x0 + t eps (paper, equation 13). */
export const straight: Path = {
  level: (t) => t,
  nearest: (t) => t,
  at: (t) => ({ a: 1 - t, b: t }),
  ofSigma: (sigma) => sigma / (1 + sigma),
  logSnrDerivative: (t) => -2 / (t * (1 - t)),
  timestep: (t) => 1000 * t,
  shift: (t, alpha) => (alpha * t) / (1 + (alpha - 1) * t),
  grid: (steps, kind, alpha) => gridOfTimes(straight, 1)(steps, kind, alpha),
};

/**
 * cos(pi t / 2) x0 + sin(pi t / 2) eps, the cosine schedule (Nichol & Dhariwal, 2021; paper, section 3).
 *
 * @param start t at which sampling begins: below 1 for networks that estimate eps, because a = 0 at 1.
 */
export function cosine(start: number): Path {
  const ofRatio = (b: number, a: number) => (2 / Math.PI) * elementary().atan2(b, a);
  const path: Path = {
    level: (t) => t,
    nearest: (t) => t,
    at: (t) => ({ a: elementary().cos((Math.PI / 2) * t), b: elementary().sin((Math.PI / 2) * t) }),
    ofSigma: (sigma) => ofRatio(sigma, 1),
    logSnrDerivative: (t) => (-2 * Math.PI) / elementary().sin(Math.PI * t),
    timestep: (t) => 1000 * t,
    shift(t, alpha) {
      if (alpha === 1) return t;
      const { a, b } = path.at(t);
      return ofRatio(alpha * b, a);
    },
    grid: (steps, kind, alpha) => gridOfTimes(path, start)(steps, kind, alpha),
  };
  return path;
}

const LEVELS = 1000;

/**
 * A table of 1000 levels, sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps with alpha_bar the product of 1 - beta
 * (Ho et al., 2020). The level is the index 0 ... 999, -1 that of data without noise; the network is told the
 * index. A table has no log-SNR between its levels, so no derivative; the shift takes the level whose log-SNR
 * is nearest, and therefore cannot exceed the last one.
 *
 * Sampling ends at the level 0, as in the public code of LDM, whose noise is still sigma = 0.029.
 *
 * @param betas beta of a level, from its place in [0, 1].
 */
function table(beta: (place: number) => number): Path {
  const a: number[] = [];
  const b: number[] = [];
  let alphaBar = 1;
  for (let i = 0; i < LEVELS; i++) {
    alphaBar *= 1 - beta(i / (LEVELS - 1));
    a.push(Math.sqrt(alphaBar));
    b.push(Math.sqrt(1 - alphaBar));
  }
  const level = (t: number) => Math.min(LEVELS - 1, Math.floor(LEVELS * t));
  const sigma = (i: number) => b[i]! / a[i]!;
  const path: Path = {
    level,
    nearest: (t) => (level(t) + 0.5) / LEVELS,
    at: (i) => (i < 0 ? { a: 1, b: 0 } : { a: a[i]!, b: b[i]! }),
    ofSigma(wanted) {
      let [low, high] = [0, LEVELS - 1];
      while (high - low > 1) {
        const middle = (low + high) >>> 1;
        if (sigma(middle) <= wanted) low = middle;
        else high = middle;
      }
      // The nearer in log-SNR: beyond the geometric mean it is the upper one.
      return wanted * wanted > sigma(low) * sigma(high) ? high : low;
    },
    logSnrDerivative: () => null,
    timestep: (i) => i,
    shift: (i, alpha) => (alpha === 1 || i < 0 ? i : path.ofSigma(alpha * sigma(i))),
    grid(steps, kind) {
      refuseKarras(kind);
      if (steps >= LEVELS) {
        throw new OrchestratorError(
          'ERR_USAGE',
          `--steps ${steps}: the formulation has a table of ${LEVELS} levels; expected at most ${LEVELS - 1} steps`,
        );
      }
      if (kind === 'reference') {
        return [...equalSteps(steps, Math.max(steps - 1, 1), LEVELS - 1, 0).map(Math.round), -1];
      }
      return [...equalSteps(steps, steps, LEVELS - 1, 0).map(Math.floor), 0];
    },
  };
  return path;
}

/** sqrt(beta) linear between LDM's ends (Rombach et al., 2022). */
export const ldmTable = table((place) => {
  const root = Math.sqrt(0.00085) + place * (Math.sqrt(0.012) - Math.sqrt(0.00085));
  return root * root;
});

/** beta linear between the ends of DDPM (Ho et al., 2020). */
export const ddpmTable = table((place) => 1e-4 + place * (2e-2 - 1e-4));

/** How sigma is distributed in training: its quantile function, and the derivative of log sigma by t. */
interface SigmaLaw {
  quantile(t: number): number;
  logDerivative(t: number): number;
}

/** log sigma ~ N(mean, deviation^2) (Karras et al., 2022, table 1). */
export function normalLaw(mean: number, deviation: number): SigmaLaw {
  return {
    quantile: (t) => elementary().exp(mean + deviation * normalQuantile(t)),
    logDerivative: (t) => deviation / normalPdf(normalQuantile(t)),
  };
}

/** sigma as on another path with t uniform. */
export function lawOf(path: Path): SigmaLaw {
  return {
    quantile(t) {
      const { a, b } = path.at(t);
      return b / a;
    },
    logDerivative: (t) => path.logSnrDerivative(t)! / -2,
  };
}

const RHO = 7;

/** `steps` values with equal steps of sigma^(1/rho) (Karras et al., 2022, equation 5). */
function karras(steps: number, low: number, high: number): number[] {
  const { exp, log } = elementary();
  const root = (sigma: number) => exp(log(sigma) / RHO);
  return equalSteps(steps, Math.max(steps - 1, 1), root(high), root(low)).map((value) => {
    let sigma = 1;
    for (let i = 0; i < RHO; i++) sigma *= value;
    return sigma;
  });
}

/** Share of the training law that lies below the smallest and above the largest sigma of sampling. */
const OUTSIDE = 0.001;

/**
 * x0 + sigma eps (Karras et al., 2022). The network is told 250 ln(sigma), which is EDM's ln(sigma) / 4 times
 * 1000 as on the other paths; it leaves [0, 1000].
 */
export function inSigma(law: SigmaLaw): Path {
  return {
    level: law.quantile,
    nearest: (t) => t,
    at: (sigma) => ({ a: 1, b: sigma }),
    ofSigma: (sigma) => sigma,
    logSnrDerivative: (t) => -2 * law.logDerivative(t),
    timestep: (sigma) => 250 * elementary().log(sigma),
    shift: (sigma, alpha) => alpha * sigma,
    grid(steps, kind) {
      const [low, high] =
        kind === 'karras' ? [0.002, 80] : [law.quantile(OUTSIDE), law.quantile(1 - OUTSIDE)];
      return [...karras(steps, low, high), 0];
    },
  };
}
