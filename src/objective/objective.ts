/** What a run learns, as one value: training draws from it, and sampling inverts it. */
import { elementary } from '../native/elementary.js';
import type { Coefficients } from './coefficients.js';
import { coefficientsAt, type Formulation } from './formulations.js';
import { formulationOf, nameWithDensity } from './names.js';
import type { GridKind } from './paths.js';

/**
 * The log-SNRs at which the error of the noise estimate is validated. At a given log-SNR every formulation
 * has the same problem, whatever it is trained on, so this error compares across formulations; their losses
 * do not. All lie within the LDM table.
 */
export const EPSILON_LOG_SNRS = [-5.25, -3.75, -2.25, -0.75, 0.75, 2.25, 3.75, 5.25] as const;

/** The part of the configuration that says what is learned. */
export interface ObjectiveConfig {
  formulation: string;
  /** Resolution shift alpha > 0. */
  shift: number;
}

/**
 * The objective in a stored configuration. Earlier versions wrote the density of t, which rectified flow alone
 * had, as a key of its own: {formulation: rf, density: lognorm(0, 1)}.
 */
export function storedObjective<T extends Readonly<Record<string, unknown>>>(stored: T): T {
  const { density, ...rest } = stored;
  return typeof density === 'string'
    ? ({ ...rest, formulation: nameWithDensity(density) } as unknown as T)
    : stored;
}

/** Levels are those of the formulation's path: t, the index of a table, or sigma. */
export class Objective {
  readonly formulation: Formulation;
  readonly #alpha: number;

  constructor(formulation: Formulation, alpha: number) {
    this.formulation = formulation;
    this.#alpha = alpha;
  }

  /** The level at t in [0, 1], without the shift. */
  level(t: number): number {
    return this.formulation.path.level(t);
  }

  /** The level with a log-SNR, or the nearest level of a table. */
  levelOfLogSnr(lambda: number): number {
    return this.formulation.path.ofSigma(elementary().exp(-lambda / 2));
  }

  /** The coefficients at a level. */
  at(level: number): Coefficients {
    return coefficientsAt(this.formulation, level);
  }

  /** Draws a level from two independent uniforms in (0, 1): t from the density, then the shift. */
  drawLevel(u1: number, u2: number): number {
    return this.shift(this.level(this.formulation.density.draw(u1, u2)));
  }

  /**
   * Resolution-dependent shift (SD3 paper, section 5.3.2), the same in training and in sampling: sigma becomes
   * alpha sigma. On the straight path this is t_m = alpha t_n / (1 + (alpha - 1) t_n). In theory alpha =
   * sqrt(m / n); it is 3 at 1024 x 1024.
   */
  shift(level: number): number {
    return this.formulation.path.shift(level, this.#alpha);
  }

  /** The steps + 1 levels of a sampling run, from noise to data, shifted as in training; steps >= 1. */
  grid(kind: GridKind, steps: number): number[] {
    return this.formulation.path.grid(steps, kind, this.#alpha).map((level) => this.shift(level));
  }
}

/** The objective of a run or of a checkpoint. Throws ERR_CONFIG for an unknown formulation. */
export function objectiveOf({ formulation, shift }: ObjectiveConfig): Objective {
  return new Objective(formulationOf(formulation), shift);
}
