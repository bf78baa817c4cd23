/** What a run learns, as one value: training draws from it, and sampling inverts it. */
import { OrchestratorError } from '../errors.js';
import { type Density, densityOf } from './density.js';
import { type Coefficients, FORMULATIONS, type Formulation, type FormulationName } from './formulations.js';

/** The part of the configuration that says what is learned. */
export interface ObjectiveConfig {
  formulation: FormulationName;
  density: string;
  /** Resolution shift alpha > 0. */
  shift: number;
}

export class Objective {
  /** The coefficients at t in [0, 1]. */
  readonly at: (t: number) => Coefficients;
  readonly #density: Density;
  readonly #alpha: number;

  constructor(formulation: Formulation, density: Density, alpha: number) {
    this.at = formulation;
    this.#density = density;
    this.#alpha = alpha;
  }

  /** Draws t from two independent uniforms in (0, 1): from the density, then shifted. */
  drawTime(u1: number, u2: number): number {
    return this.shift(this.#density(u1, u2));
  }

  /**
   * Resolution-dependent shift (SD3 paper, section 5.3.2): t_m = alpha t_n / (1 + (alpha - 1) t_n), the same
   * in training and in sampling. In theory alpha = sqrt(m / n); it is 3 at 1024 x 1024.
   */
  shift(t: number): number {
    return (this.#alpha * t) / (1 + (this.#alpha - 1) * t);
  }
}

/** The objective of a run or of a checkpoint. Throws ERR_CONFIG for an unknown formulation or density. */
export function objectiveOf({ formulation, density, shift }: ObjectiveConfig): Objective {
  if (!Object.hasOwn(FORMULATIONS, formulation)) {
    const expected = `expected one of ${Object.keys(FORMULATIONS).join(', ')}, received "${formulation}"`;
    throw new OrchestratorError('ERR_CONFIG', `objective.formulation: ${expected}`);
  }
  return new Objective(FORMULATIONS[formulation], densityOf(density), shift);
}
