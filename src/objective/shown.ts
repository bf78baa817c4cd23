/** What a formulation means at each t, in numbers: `orchestrator objective show`. */
import { elementary } from '../native/elementary.js';
import { coefficientsAt, type Formulation } from './formulations.js';
import type { Objective } from './objective.js';
import type { GridKind } from './paths.js';

interface OfDataAndNoise {
  x0: number | null;
  eps: number | null;
}

/** One t. Numbers that are infinite or do not exist there are null. */
export interface ShownRow {
  /** Before the resolution shift; in a table of n levels (i + 0.5) / n. */
  t: number;
  /** z = a x0 + b eps on the path, after the shift. */
  a: number | null;
  b: number | null;
  /** lambda = log(a^2 / b^2), and its derivative by t. */
  log_snr: number | null;
  log_snr_derivative: number | null;
  /** From which training draws t. */
  density: number | null;
  /** w_t of the paper's unified loss, -1/2 E[w_t lambda'_t |eps_hat - eps|^2], density included. */
  w: number | null;
  /** The target as target.x0 x0 + target.eps eps, and the network's input likewise. */
  target: OfDataAndNoise;
  input: OfDataAndNoise;
  loss_weight: number | null;
  timestep: number | null;
  /** What multiplies |eps_hat - eps|^2: density * loss_weight * ((a q - b p) / a)^2, target p x0 + q eps. */
  effective_weight: number | null;
}

/** A level of a sampling run. */
export type ShownLevel = Pick<ShownRow, 'a' | 'b' | 'log_snr' | 'input' | 'timestep'> & {
  sigma: number | null;
};

const finite = (value: number) => (Number.isFinite(value) ? value : null);

function pointAt(formulation: Formulation, level: number) {
  const { a, b } = formulation.path.at(level);
  const coefficients = coefficientsAt(formulation, level);
  const lambda = 2 * (elementary().log(a) - elementary().log(b));
  return { a, b, lambda, coefficients };
}

/** The row at t in [0, 1]. */
export function shownRow(objective: Objective, wantedTime: number): ShownRow {
  const { formulation } = objective;
  const t = formulation.path.nearest(wantedTime);
  const level = objective.shift(objective.level(t));
  const { a, b, lambda, coefficients } = pointAt(formulation, level);
  const { p, q, weight, timestep } = coefficients;
  const derivative = formulation.path.logSnrDerivative(t);
  const density = formulation.density.pdf(t);
  const ofNoise = (a * q - b * p) / a;
  const effective = density * weight * ofNoise * ofNoise;
  return {
    t,
    a: finite(a),
    b: finite(b),
    log_snr: finite(lambda),
    log_snr_derivative: derivative === null ? null : finite(derivative),
    density: finite(density),
    w: derivative === null ? null : finite((formulation.constant * 2 * effective) / Math.abs(derivative)),
    target: { x0: finite(p), eps: finite(q) },
    input: { x0: finite(coefficients.a), eps: finite(coefficients.b) },
    loss_weight: finite(weight),
    timestep: finite(timestep),
    effective_weight: finite(effective),
  };
}

/** The levels of a sampling run of `steps` steps, from noise to data. */
export function shownGrid(objective: Objective, kind: GridKind, steps: number): ShownLevel[] {
  return objective.grid(kind, steps).map((level) => {
    const { a, b, lambda, coefficients } = pointAt(objective.formulation, level);
    return {
      a: finite(a),
      b: finite(b),
      sigma: finite(b / a),
      log_snr: finite(lambda),
      input: { x0: finite(coefficients.a), eps: finite(coefficients.b) },
      timestep: finite(coefficients.timestep),
    };
  });
}
